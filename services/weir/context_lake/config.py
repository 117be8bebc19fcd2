"""One tenant's lake as a document, and how a request turns it into its next version. Pure: nothing is read or kept.

A request is a list of operations on an `Edit`; only the state after the last of them is checked, and every
fault of the request is told at once.
"""

import re
from collections.abc import Iterable
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from weir.context_lake import names
from weir.context_lake.connectors import CONNECTORS
from weir.context_lake.connectors.declared import Findings, Place, check_params, reference_in
from weir.context_lake.connectors.source import Connector, SourceText, read_from
from weir.context_lake.surroundings import Surroundings
from weir_shared.errors import FieldError, ValidationFailed

MAX_FROM = 2048
MAX_DESCRIPTION = 4096

_EMBEDDED_REFERENCE = re.compile(r"\$\{\s*(?:secrets|env)\s*:")


class WantedDataset(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={
        "from_": "from",
        "connector_id": "connectorId",
        "created_at": "createdAt",
        "updated_at": "updatedAt",
        "created_by": "createdBy",
    },
):
    """A dataset as a request has it. The last four are the platform's own: accepted, so that what was read
    can be sent back, and ignored."""

    from_: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    params: dict[str, Any] | UnsetType | None = UNSET
    notifications: bool | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    connector_id: Any = UNSET
    created_at: Any = UNSET
    updated_at: Any = UNSET
    created_by: Any = UNSET


class Dataset(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"from_": "from"}):
    """A dataset of the document; its credentials are references to sealed secrets."""

    from_: str
    name: str
    params: dict[str, str] = {}
    notifications: bool = False
    description: str | None = None
    created_at: str
    updated_at: str
    created_by: str

    @property
    def source(self) -> SourceText:
        text = read_from(self.from_)
        assert text is not None, "a stored dataset has been checked"
        return text


class View(Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    sql: str
    description: str | None = None


class Document(Struct, frozen=True, kw_only=True):
    """What a lake holds at one version."""

    datasets: list[Dataset] = []
    views: list[View] = []

    def find_dataset(self, name: str) -> Dataset | None:
        key = names.key_of(name)
        return next((dataset for dataset in self.datasets if names.key_of(dataset.name) == key), None)

    def references(self) -> set[str]:
        """Every secret that the document refers to."""
        return {
            reference
            for dataset in self.datasets
            for value in dataset.params.values()
            if (reference := reference_in(value))
        }


class Revision(Struct, frozen=True, kw_only=True):
    """A document that may be kept, with the literals that are to be sealed by their references."""

    document: Document
    literals: dict[str, str]
    dropped: set[str]
    warnings: list[FieldError]


class Authorship(Struct, frozen=True):
    """Who changes the lake, and when (RFC 3339)."""

    author: str
    moment: str


class Edit:
    """The next version of a document while it is being made."""

    def __init__(self, document: Document) -> None:
        self._before = document
        self._datasets = {names.key_of(dataset.name): dataset for dataset in document.datasets}
        self._views = {names.key_of(view.name): view for view in document.views}
        self._changed: dict[str, tuple[WantedDataset, Place]] = {}
        self._found = Findings([], [])

    def add_dataset(self, wanted: WantedDataset, at: Place) -> None:
        name = wanted.name if isinstance(wanted.name, str) else ""
        key = names.key_of(name)
        if key in self._datasets or key in self._changed or key in self._views:
            self._found.refuse(at.field("name"), f"name {name} is in use", "conflict")
        else:
            self._changed[key] = (wanted, at)

    def replace_dataset(self, name: str, wanted: WantedDataset, at: Place) -> None:
        """Every field is replaced; what is not sent has its default again."""
        key = names.key_of(name)
        if wanted.name is UNSET:
            wanted = _renamed(wanted, self._datasets[key].name if key in self._datasets else name)
        elif names.key_of(str(wanted.name)) != key:
            self._found.refuse(at.field("name"), f"name must be {name}, as in the path", "name_mismatch")
        if key not in self._datasets and key not in self._changed:
            self._found.refuse(at.field("name"), f"there is no dataset {name}", "not_found")
        else:
            self._changed[key] = (wanted, at)

    def remove_dataset(self, name: str, at: Place) -> None:
        key = names.key_of(name)
        if self._datasets.pop(key, None) is None:
            self._found.refuse(at.prefix or "name", f"there is no dataset {name}", "not_found")

    def finish(self, around: Surroundings, by: Authorship) -> Revision:
        """The revision, checked as a whole. Raises ValidationFailed with every fault."""
        literals: dict[str, str] = {}
        for key, (wanted, at) in self._changed.items():
            checked = _Check(wanted, at, around, self._found, self._before.references())
            dataset = checked.dataset(self._before.find_dataset(key), by)
            if dataset is not None:
                self._datasets[key] = dataset
                literals |= checked.literals
        if len(self._datasets) > around.max_datasets:
            self._found.refuse("", f"a lake holds at most {around.max_datasets} datasets", "limit_exceeded")
        if self._found.errors:
            raise ValidationFailed(self._found.errors)
        document = Document(
            datasets=sorted(self._datasets.values(), key=_by_name), views=list(self._views.values())
        )
        return Revision(
            document=document,
            literals=literals,
            dropped=self._before.references() - document.references(),
            warnings=self._found.warnings,
        )


class _Check:
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
        name = self._name()
        params = self._params()
        if text is not None and connector is not None:
            check_params(connector.params, params, self._at, self._found)
            connector.check(text, params, self._at, self._around, self._found)
            params = self._sealed(name, connector, params)
        self._notifications(connector)
        description = self._description()
        if len(self._found.errors) > faults:
            return None
        return Dataset(
            from_=str(self._wanted.from_),
            name=name,
            params=params,
            notifications=self._wanted.notifications is True,
            description=description,
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
        if connector is None:
            self._found.refuse(
                at, f"from must begin with a known connector: {', '.join(CONNECTORS)}", "unknown_connector"
            )
        return text, connector

    def _name(self) -> str:
        value = self._wanted.name
        if not isinstance(value, str) or not value:
            self._found.refuse(self._at.field("name"), "name is required", "required")
            return ""
        name = names.normalised(value)
        if fault := names.fault_of(name):
            self._found.refuse(self._at.field("name"), fault, "invalid_name")
        return name

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

    def _notifications(self, connector: Connector | None) -> None:
        if self._wanted.notifications is not True:
            return
        if connector is None or not connector.notifies:
            able = _listed(connector.id for connector in CONNECTORS.values() if connector.notifies)
            message = f"notifications are offered for {able} datasets only"
            self._found.refuse(self._at.field("notifications"), message, "not_supported")
        else:
            message = "notifications are not available in this version"
            self._found.refuse(self._at.field("notifications"), message, "not_available")

    def _description(self) -> str | None:
        value = self._wanted.description
        if not isinstance(value, str) or not value:
            return None
        if len(value.encode()) > MAX_DESCRIPTION or "\0" in value:
            message = f"description must be at most {MAX_DESCRIPTION} bytes, none of them NUL"
            self._found.refuse(self._at.field("description"), message)
        return value


def _renamed(wanted: WantedDataset, name: str) -> WantedDataset:
    return WantedDataset(
        from_=wanted.from_,
        name=name,
        params=wanted.params,
        notifications=wanted.notifications,
        description=wanted.description,
    )


def _by_name(dataset: Dataset) -> tuple[str, str]:
    return names.key_of(dataset.name), dataset.name


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)
