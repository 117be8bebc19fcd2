"""What the runtime reads from and writes to its HTTP socket, as data."""

from typing import Any, Literal

from msgspec import Struct


class EmbeddedColumn(Struct, frozen=True, forbid_unknown_fields=True):
    """A column of texts that is embedded when the rows are kept."""

    name: str
    model: str
    """The tenant's model of the kind embedding."""


class Index(Struct, frozen=True, forbid_unknown_fields=True):
    columns: list[str]
    unique: bool = False


class Keeping(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the rows of a relation are kept beside their source, and how they are read again."""

    store: Literal["memory", "parquet", "duckdb"] = "parquet"
    appends: bool = False
    """Whether a refresh reads only rows that are newer than those kept."""
    timeColumn: str = ""
    timeFormat: Literal["", "timestamp", "timestamptz", "unix_seconds", "unix_millis", "ISO8601", "date"] = ""
    overlapSeconds: float = 0
    """How far back an append reads again, for rows that come late."""
    windowSeconds: float | None = None
    """Only rows of the last so many seconds are read."""
    refreshSql: str = ""
    """A SELECT from the dataset's own name, in its place when it is read."""
    retentionSeconds: float | None = None
    retentionCondition: str = ""
    """Rows for which it is true are not kept."""
    retentionEverySeconds: float | None = None
    primaryKey: list[str] = []
    indexes: list[Index] = []
    onConflict: Literal["fail", "drop", "upsert"] = "fail"
    conflictColumns: list[str] = []
    """What the conflict is about; empty with `drop`: any key."""
    readyAtOnce: bool = False
    """Whether the source answers until the rows have been loaded."""


class Dataset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """One source of rows and how it is opened; `sources/opening.py` says which `options` there are."""

    name: str
    connector: Literal[
        "s3",
        "gcs",
        "abfs",
        "http",
        "https",
        "file",
        "import",
        "delta_lake",
        "iceberg",
        "postgres",
        "mysql",
        "sqlite",
        "duckdb",
    ]
    format: Literal["", "parquet", "csv", "tsv", "json", "avro", "arrow"] = ""
    """Empty for sources that are no files."""
    location: str = ""
    from_: str = ""
    options: dict[str, Any] = {}
    roots: list[str] = []
    """Directories besides the import root that a `file` dataset may read."""
    fingerprint: str = ""
    """The desk's own mark of what the dataset is read from; told again with its columns."""
    embedded: list[EmbeddedColumn] = []
    keeping: Keeping | None = None


class View(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    sql: str
    fingerprint: str = ""
    """The desk's own mark of the view and of everything under it."""
    keeping: Keeping | None = None


class Configuration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int
    datasets: list[Dataset] = []
    views: list[View] = []
    """In dependency order: a view sees the datasets and the views before it."""
    force: bool = False
    embeddings: str = ""
    """Where the runtime has texts embedded; empty: nowhere."""
    """Open and load everything anew, whatever its columns have become."""
    keptBytes: int = 10 * 1024**3
    """How much the kept rows of all relations may take on disk."""


class RefreshRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    trigger: str = ""
    """Why, for the task history."""


class SqlRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    query: str
    parameters: list[Any] | dict[str, Any] | None = None
    maxRows: int | None = 10_000
    maxBytes: int | None = None
    format: Literal["json", "ndjson", "csv", "arrow", "text"] = "json"
    int64: Literal["number", "string"] = "number"
    """How JSON shows integers of 64 bits."""
    tables: list[str] | None = None
    """What the caller may see, in any letter case; None: everything."""
    subject: str = ""
    """Who asks, for the task history."""
    traceId: str = ""
    useCache: bool = True
    """False: the answer is made anew; it is kept all the same."""
    coldStart: bool = False


class ProbeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dataset that is opened once and not kept."""

    dataset: Dataset


class StopRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    drainSeconds: float = 5.0


class Column(Struct, frozen=True):
    name: str
    type: str
    nullable: bool


class RelationError(Struct, frozen=True):
    message: str
    at: str


class KnownSchema(Struct, frozen=True):
    fingerprint: str
    schema: str
    """An Arrow schema as an IPC message, in base64."""


class RelationStatus(Struct, frozen=True):
    status: Literal["initializing", "ready", "refreshing", "error"]
    error: RelationError | None
    loadedAt: str | None
    columns: list[Column] | None
    schemaHash: str | None = None
    """Changes with the columns' names, types, order or nullability."""
    applied: Literal["kept", "loaded", "failed", "pending"] = "pending"
    """What the latest configuration did to it; kept: it was not opened anew."""
    rowCount: int | None = None
    """Of rows that are kept; a source is not counted."""
    byteCount: int | None = None
    generation: int | None = None


class Status(Struct, frozen=True):
    version: int
    uptimeSeconds: float
    rssBytes: int
    activeQueries: int
    activeRefreshes: int
    datasets: dict[str, RelationStatus]
    views: dict[str, RelationStatus]
