"""What a lake holds: datasets and views, each with its own state, so that one's failure is its own."""

import asyncio
import base64
import hashlib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

import pyarrow as pa
from datafusion.catalog import Table
from msgspec import Struct

from weir.lake_runtime.faults import Fault, SourceError, SqlError
from weir.lake_runtime.sources.database import DatabaseTable
from weir.lake_runtime.sources.listing import Location
from weir.lake_runtime.wire import Column, Dataset, KnownSchema, RelationError, RelationStatus, View

if TYPE_CHECKING:
    from weir.lake_runtime.loading import Loader

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
    "token",
    "oauth2_credential",
    "s3_access_key_id",
    "s3_secret_access_key",
    "s3_session_token",
)
_PASSWORD = re.compile(
    r"(?:^|[\s;])(?:password|pwd)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s';]+)|://[^/\s:@]*:([^@\s]+)@", re.I
)


class Opened(Struct, frozen=True):
    """How a relation's rows are read at one moment."""

    table: Table
    location: Location | None = None
    selective: Table | None = None
    """The same rows, for statements that look for few of them."""
    source: DatabaseTable | None = None
    """Where it lies when that is a database, which may answer whole statements."""


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
        self.selective: Table | None = None
        """The same table by a reader for statements that look for a few rows."""
        self.location: Location | None = None
        self.source: DatabaseTable | None = None
        self.error: RelationError | None = None
        self.fault: Fault | None = None
        self.loaded_at: str | None = None
        self.bases: frozenset[str] = frozenset()
        """For a view: every relation that its plan reads, through other views too."""
        self.expansion = 0
        """For a view: how many relations its plan unfolds to."""
        self.is_volatile = False
        """For a view: whether its rows change without any table changing."""
        self.is_kept = False
        """Whether the latest configuration took it over as it was."""
        self.failures = 0
        """How often it could not be opened since it last could."""
        self.loader: Loader | None = None
        """What keeps its rows beside the source, when they are."""
        self.is_loading = False
        self.turn = asyncio.Lock()
        """Held while it is opened or loaded: one at a time."""
        self._settled = asyncio.Event()

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def is_view(self) -> bool:
        return isinstance(self.definition, View)

    @property
    def names_files(self) -> bool:
        """Whether its table is made with the engine's name of the file that a row is in."""
        options = self.definition.options if isinstance(self.definition, Dataset) else {}
        return bool(options.get("file_columns")) or options.get("json_format") == "array"

    @property
    def status(self) -> Literal["initializing", "ready", "refreshing", "error"]:
        if self.is_loading and self.table is not None:
            return "refreshing"
        if self.error is not None:
            return "error"
        return "initializing" if self.table is None else "ready"

    def opened(self, opened: Opened, *, loaded_at: str | None = None) -> None:
        """`loaded_at`: when its rows were read, if that was not now."""
        self.table, self.selective = opened.table, opened.selective
        self.location, self.source = opened.location, opened.source
        self.mend(loaded_at)

    def mend(self, loaded_at: str | None = None) -> None:
        """Its table is as new as its source."""
        self.error = self.fault = None
        self.loaded_at = loaded_at or _now()
        self.is_kept = False
        self.failures = 0
        self._settled.set()

    def close(self) -> None:
        """A view whose table must not answer any more: what it read is about to go."""
        self.table = None

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

    def known_schema(self) -> KnownSchema | None:
        """The columns of a dataset that has been opened, exactly; what a file says beside them is left out."""
        if self.table is None or not isinstance(self.definition, Dataset):
            return None
        message = self.table.schema.remove_metadata().serialize().to_pybytes()
        return KnownSchema(self.definition.fingerprint, base64.b64encode(message).decode())

    def describe(self) -> RelationStatus:
        kept = self.loader.kept if self.loader is not None else None
        return RelationStatus(
            status=self.status,
            error=self.error,
            loadedAt=self.loaded_at,
            columns=self.columns(),
            schemaHash=None if self.table is None else schema_hash(self.table.schema),
            applied=self._applied(),
            rowCount=None if kept is None else kept.generation.row_count,
            byteCount=None if kept is None else kept.generation.byte_count,
            generation=None if kept is None else kept.generation.number,
        )

    def _applied(self) -> Literal["kept", "loaded", "failed", "pending"]:
        if self.error is not None:
            return "failed"
        if self.table is None:
            return "pending"
        return "kept" if self.is_kept else "loaded"

    def secrets(self) -> list[str]:
        """Values that no message may carry."""
        if not isinstance(self.definition, Dataset):
            return []
        options = self.definition.options
        plain = [str(options[name]) for name in _CREDENTIALS if options.get(name)]
        # A client's secret is told apart from its id, too.
        client_secret = str(options.get("oauth2_credential") or "").rpartition(":")[2]
        return [*plain, client_secret] + [word for text in plain for word in _passwords(text)]


def _passwords(connection: str) -> list[str]:
    """The passwords inside a connection string, as written and as meant."""
    found = [first or second for first, second in _PASSWORD.findall(connection)]
    meant = [unquote(word.strip("'")) for word in found] + [
        re.sub(r"\\(.)", r"\1", word.strip("'")) for word in found
    ]
    return sorted({*found, *meant}, key=len, reverse=True)


def columns_of(schema: pa.Schema) -> list[Column]:
    return [Column(field.name, type_name(field.type), field.nullable) for field in schema]


def schema_hash(schema: pa.Schema) -> str:
    """The same for the same columns, whatever a file says beside them."""
    told = "\n".join(f"{field.name}\t{type_name(field.type)}\t{field.nullable}" for field in schema)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def type_name(data_type: Any) -> str:
    """A column's type in Arrow's words; how its text is laid out in memory is nobody's business."""
    if pa.types.is_string_view(data_type) or pa.types.is_large_string(data_type):
        return "string"
    if pa.types.is_binary_view(data_type) or pa.types.is_large_binary(data_type):
        return "binary"
    return str(data_type)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
