"""What a lake holds: datasets and views, each with its own state, so that one's failure is its own."""

import asyncio
import re
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import unquote

import pyarrow as pa
from datafusion.catalog import Table

from weir.lake_runtime.faults import Fault, SourceError, SqlError
from weir.lake_runtime.sources.listing import Location
from weir.lake_runtime.wire import Column, Dataset, RelationError, RelationStatus, View

_CREDENTIALS = (
    "access_key_id",
    "secret_access_key",
    "session_token",
    "pg_pass",
    "pg_connection_string",
    "mysql_pass",
    "mysql_connection_string",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "azure_storage_account_key",
    "azure_storage_sas_key",
    "azure_storage_client_secret",
    "google_service_account_key",
    "gcs_service_account_key",
    "abfs_access_key",
    "abfs_bearer_token",
    "abfs_client_secret",
    "abfs_sas_string",
    "http_password",
    "http_headers",
    "s3_access_key_id",
    "s3_secret_access_key",
    "s3_session_token",
)
_PASSWORD = re.compile(
    r"(?:^|[\s;])(?:password|pwd)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s';]+)|://[^/\s:@]*:([^@\s]+)@", re.I
)


class RelationOpening(Exception):
    """A statement names a relation that is still being opened: wait for it and plan again."""

    def __init__(self, relation: "Relation") -> None:
        super().__init__(relation.name)
        self.relation = relation


class Relation:
    """One dataset or view. Written by the event loop only; planning threads read it."""

    def __init__(self, definition: Dataset | View) -> None:
        self.definition = definition
        self.table: Table | None = None
        self.location: Location | None = None
        self.error: RelationError | None = None
        self.fault: Fault | None = None
        self.loaded_at: str | None = None
        self.bases: frozenset[str] = frozenset()
        """For a view: every relation that its plan reads, through other views too."""
        self.expansion = 0
        """For a view: how many relations its plan unfolds to."""
        self.is_volatile = False
        """For a view: whether its rows change without any table changing."""
        self.failures = 0
        """How often it could not be opened since it last could."""
        self._settled = asyncio.Event()

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def is_view(self) -> bool:
        return isinstance(self.definition, View)

    @property
    def status(self) -> Literal["initializing", "ready", "error"]:
        if self.error is not None:
            return "error"
        return "initializing" if self.table is None else "ready"

    def opened(self, table: Table, *, location: Location | None = None) -> None:
        self.table, self.location, self.error, self.fault = table, location, None, None
        self.loaded_at = _now()
        self.failures = 0
        self._settled.set()

    def failed(self, fault: Fault) -> None:
        """Mark the relation; a table from an earlier opening goes on answering."""
        self.fault = fault
        self.failures += 1
        reason = fault.reason if isinstance(fault, SourceError) and not self.is_view else fault.message
        self.error = RelationError(message=reason, at=_now())
        self._settled.set()

    async def settled(self) -> None:
        """Wait until the first opening has ended, well or ill."""
        await self._settled.wait()

    def require_table(self) -> Table:
        """The table, or why there is none: `RelationOpening`, `SourceError`, `SqlError`."""
        if self.table is not None:
            return self.table
        if self.fault is None:
            raise RelationOpening(self)
        if isinstance(self.fault, SourceError):
            raise SourceError(self.fault.dataset, self.fault.reason)
        raise SqlError(f"View {self.name!r} is not usable: {self.fault.message}")

    def columns(self) -> list[Column] | None:
        return None if self.table is None else columns_of(self.table.schema)

    def describe(self) -> RelationStatus:
        return RelationStatus(
            status=self.status, error=self.error, loadedAt=self.loaded_at, columns=self.columns()
        )

    def secrets(self) -> list[str]:
        """Values that no message may carry."""
        if not isinstance(self.definition, Dataset):
            return []
        options = self.definition.options
        plain = [str(options[name]) for name in _CREDENTIALS if options.get(name)]
        return plain + [word for text in plain for word in _passwords(text)]


def _passwords(connection: str) -> list[str]:
    """The passwords inside a connection string, as written and as meant."""
    found = [first or second for first, second in _PASSWORD.findall(connection)]
    meant = [unquote(word.strip("'")) for word in found] + [
        re.sub(r"\\(.)", r"\1", word.strip("'")) for word in found
    ]
    return sorted({*found, *meant}, key=len, reverse=True)


def columns_of(schema: pa.Schema) -> list[Column]:
    return [Column(field.name, type_name(field.type), field.nullable) for field in schema]


def type_name(data_type: Any) -> str:
    """A column's type in Arrow's words; how its text is laid out in memory is nobody's business."""
    if pa.types.is_string_view(data_type) or pa.types.is_large_string(data_type):
        return "string"
    if pa.types.is_binary_view(data_type) or pa.types.is_large_binary(data_type):
        return "binary"
    return str(data_type)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
