"""One dataset of a request held against every rule at once; what is left is a dataset that may be kept."""

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec import UNSET

from weir.context_lake import names
from weir.context_lake.connectors import CONNECTORS
from weir.context_lake.connectors.declared import Findings, Place, check_params, reference_in, with_own_names
from weir.context_lake.connectors.files import FILE_COLUMNS
from weir.context_lake.connectors.source import Connector, SourceText, read_from
from weir.context_lake.connectors.urls import carries_credentials, refuse_credentials
from weir.context_lake.document import VISIBILITIES, Authorship, Dataset, Visibility, WantedDataset
from weir.context_lake.embedded import check_columns
from weir.context_lake.refreshes.checking import check_acceleration, check_times
from weir.context_lake.surroundings import Surroundings

MAX_FROM = 2048
MAX_DESCRIPTION = 4096
MAX_METADATA = 8 * 1024
MAX_INTEGER = 2**63

# Fields of a Spicepod's dataset that do nothing yet, each with the value that asks for just that.
NOT_YET: dict[str, Any] = {
    "access": "read",
    "time_partition_column": None,
    "time_partition_format": None,
    "check_availability": "disabled",
    "unsupported_type_action": None,
    "embeddings": None,
    "vectors": None,
    "metrics": None,
    "replication": None,
    "ref": None,
}

_USER_INFO = re.compile(r"://[^/?#\s]*:[^/?#\s]*@")
_EMBEDDED_REFERENCE = re.compile(r"\$\{\s*(?:secrets|env)\s*:")


class DatasetCheck:
    """One dataset held against the rules; collects what is wrong and which literals are to be sealed."""

    def __init__(
        self, wanted: WantedDataset, at: Place, around: Surroundings, found: Findings, known: set[str]
    ) -> None:
        self._wanted = wanted
        self._at = at
        self._around = around
        self._found = found
        self._known = known
        self.literals: dict[str, str] = {}

    def dataset(self, before: Dataset | None, by: Authorship) -> Dataset | None:
        """The dataset as it is kept, or None when something is wrong with it."""
        faults = len(self._found.errors)
        text, connector = self._source()
        name = check_name(self._wanted.name, self._at, self._found)
        params = self._params()
        told = {error.path for error in self._found.errors[faults:]}
        checked = len(self._found.errors)
        if text is not None and connector is not None:
            params = with_own_names(connector.params, params, self._at, self._found)
            check_params(connector.params, params, self._at, self._found)
            connector.check(text, params, self._at, self._around, self._found)
            params = self._sealed(name, connector, params)
        # A value that was refused is not missing too.
        self._found.errors[checked:] = [e for e in self._found.errors[checked:] if e.path not in told]
        self._notifications(text, connector, params)
        description = check_description(self._wanted.description, self._at, self._found)
        visibility = check_visibility(self._wanted.visibility, self._at, self._found)
        metadata = check_metadata(self._wanted.metadata, self._at, self._found)
        self._file_columns(metadata, connector)
        times = check_times(self._wanted, self._at, self._found)
        acceleration = check_acceleration(self._wanted.acceleration, times, name, self._at, self._found)
        columns = check_columns(
            self._wanted.columns, is_accelerated=acceleration is not None, at=self._at, found=self._found
        )
        refuse_not_yet(self._wanted, NOT_YET, self._at, self._found)
        if len(self._found.errors) > faults:
            return None
        return Dataset(
            from_=str(self._wanted.from_),
            name=name,
            params=params,
            notifications=self._wanted.notifications is True,
            description=description,
            visibility=visibility,
            metadata=metadata,
            columns=columns,
            acceleration=acceleration,
            time_column=times.column,
            time_format=times.form,
            ready_state=times.ready_state,
            created_at=before.created_at if before else by.moment,
            updated_at=by.moment,
            created_by=before.created_by if before else by.author,
        )

    def _source(self) -> tuple[SourceText | None, Connector | None]:
        at, value = self._at.field("from"), self._wanted.from_
        if not isinstance(value, str) or not value:
            self._found.refuse(at, "from is required", "required")
            return None, None
        if len(value) > MAX_FROM or any(ord(sign) < 32 for sign in value):
            self._found.refuse(at, f"from must be at most {MAX_FROM} characters, none of them a control sign")
            return None, None
        text = read_from(value)
        connector = CONNECTORS.get(text.connector) if text else None
        if _USER_INFO.search(value) or carries_credentials(value):
            # Whatever the connector: what stands there would be shown to everybody who sees the dataset.
            refuse_credentials(self._at, self._found)
        elif connector is None:
            offered = ", ".join(known.id for known in CONNECTORS.values() if known.is_offered)
            message = f"from must begin with a known connector: {offered}"
            self._found.refuse(at, message, "unknown_connector")
        return text, connector

    def _params(self) -> dict[str, str]:
        """The parameters as texts, in the order sent."""
        sent = self._wanted.params or {}
        if len(sent) > self._around.max_params:
            message = f"a dataset has at most {self._around.max_params} parameters"
            self._found.refuse(self._at.field("params"), message, "limit_exceeded")
            return {}
        return {name: text for name, value in sent.items() if (text := self._text(name, value)) is not None}

    def _text(self, name: str, value: Any) -> str | None:
        at = self._at.param(name)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int | float):
            return str(value)
        if not isinstance(value, str):
            self._found.refuse(at, f"{name[:64]} must be a text, a number or a boolean")
        elif "\0" in value:
            self._found.refuse(at, f"{name[:64]} must not hold the NUL character")
        elif len(value.encode()) > self._around.max_value_bytes:
            message = f"{name[:64]} must be at most {self._around.max_value_bytes} bytes"
            self._found.refuse(at, message, "limit_exceeded")
        else:
            return value
        return None

    def _sealed(self, name: str, connector: Connector, params: dict[str, str]) -> dict[str, str]:
        """The parameters with a reference in the place of every credential."""
        credentials = {param.name for param in connector.params if param.credential}
        return {
            param: self._reference(name, param, value) if param in credentials and value else value
            for param, value in params.items()
        }

    def _reference(self, name: str, param: str, value: str) -> str:
        # In lower case, so that a dataset that is renamed in letter case only keeps its secrets.
        own = f"ds.{names.key_of(name)}.{param}"
        given = reference_in(value)
        if given is None and _EMBEDDED_REFERENCE.search(value):
            message = f"{param} must be a credential or one reference to a secret"
            self._found.refuse(self._at.param(param), message, "secret_reference")
        elif given is None:
            self.literals[own] = value
        elif given != own:
            message = f"{param} refers to a secret that is not this dataset's"
            self._found.refuse(self._at.param(param), message, "secret_reference")
        elif given not in self._known:
            message = f"{param} refers to a secret that does not exist"
            self._found.refuse(self._at.param(param), message, "secret_reference")
        return f"${{secrets:{own}}}"

    def _file_columns(self, metadata: dict[str, Any], connector: Connector | None) -> None:
        """What of the metadata is columns: where a row's file is, how old and how large."""
        for field in FILE_COLUMNS:
            path = f"{self._at.field('metadata')}.{field}"
            if field not in metadata:
                continue
            if metadata[field] not in ("enabled", "disabled"):
                self._found.refuse(path, f"{field} must be one of enabled, disabled")
            elif metadata[field] == "enabled" and connector is not None and not connector.reads_files:
                able = ", ".join(
                    known.id for known in CONNECTORS.values() if known.reads_files and known.is_offered
                )
                self._found.refuse(path, f"{field} is offered for {able} datasets only", "not_supported")

    def _notifications(
        self, text: SourceText | None, connector: Connector | None, params: Mapping[str, str]
    ) -> None:
        if self._wanted.notifications is not True:
            return
        if text is None or connector is None or connector.check_notifications is None:
            able = ", ".join(known.id for known in CONNECTORS.values() if known.check_notifications)
            message = f"notifications are offered for {able} datasets only"
            self._found.refuse(self._at.field("notifications"), message, "not_supported")
        else:
            connector.check_notifications(text, params, self._at, self._around, self._found)


def check_name(value: object, at: Place, found: Findings) -> str:
    """The name as it is kept, or '' when there is none."""
    if not isinstance(value, str) or not value:
        found.refuse(at.field("name"), "name is required", "required")
        return ""
    name = names.normalised(value)
    if fault := names.fault_of(name):
        found.refuse(at.field("name"), fault, "invalid_name")
    return name


def check_description(value: object, at: Place, found: Findings) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    if len(value.encode()) > MAX_DESCRIPTION or "\0" in value:
        message = f"description must be at most {MAX_DESCRIPTION} bytes, none of them NUL"
        found.refuse(at.field("description"), message)
    return value


def check_visibility(value: object, at: Place, found: Findings) -> Visibility:
    for visibility in VISIBILITIES:
        if value == visibility:
            return visibility
    if isinstance(value, str):
        found.refuse(at.field("visibility"), f"visibility must be one of {', '.join(VISIBILITIES)}")
    return "shared"


def check_metadata(value: object, at: Place, found: Findings) -> dict[str, Any]:
    """Any JSON that can be kept and written as YAML, within a limit."""
    if not isinstance(value, dict) or not value:
        return {}
    metadata = cast(dict[str, Any], value)
    path = at.field("metadata")
    if not _fits(metadata):
        found.refuse(path, "metadata must hold no NUL character and only integers of 64 bits")
    elif len(msgspec.json.encode(metadata)) > MAX_METADATA:
        found.refuse(path, f"metadata must be at most {MAX_METADATA} bytes", "limit_exceeded")
    else:
        return metadata
    return {}


def refuse_not_yet(wanted: object, fields: Mapping[str, Any], at: Place, found: Findings) -> None:
    """Tells of each field that would do something another day; its idle value is taken."""
    for field, idle in fields.items():
        if (value := getattr(wanted, field)) and value is not UNSET and value != idle:
            found.refuse(at.field(field), f"{field} is not available in this version", "not_available")


def _fits(value: Any) -> bool:
    match value:
        case str():
            return "\0" not in value
        case bool() | float() | None:
            return True
        case int():
            return -MAX_INTEGER <= value < MAX_INTEGER
        case list():
            return all(_fits(item) for item in cast(list[Any], value))
        case _:
            return all("\0" not in name and _fits(item) for name, item in value.items())
