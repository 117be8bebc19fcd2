"""What the runtime reads from and writes to its HTTP socket, as data."""

from typing import Any, Literal

from msgspec import Struct


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


class View(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    sql: str


class Configuration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int
    datasets: list[Dataset] = []
    views: list[View] = []
    """In dependency order: a view sees the datasets and the views before it."""
    force: bool = False


class SqlRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    query: str
    parameters: list[Any] | dict[str, Any] | None = None
    maxRows: int | None = 10_000
    maxBytes: int | None = None
    format: Literal["json", "ndjson", "csv", "arrow", "text"] = "json"
    tables: list[str] | None = None
    """What the caller may see, in any letter case; None: everything."""
    subject: str = ""
    """Who asks, for the task history."""
    traceId: str = ""
    useCache: bool = True
    """False: the answer is made anew; it is kept all the same."""
    coldStart: bool = False


class StopRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    drainSeconds: float = 5.0


class Column(Struct, frozen=True):
    name: str
    type: str
    nullable: bool


class RelationError(Struct, frozen=True):
    message: str
    at: str


class RelationStatus(Struct, frozen=True):
    status: Literal["initializing", "ready", "error"]
    error: RelationError | None
    loadedAt: str | None
    columns: list[Column] | None


class Status(Struct, frozen=True):
    version: int
    uptimeSeconds: float
    rssBytes: int
    activeQueries: int
    datasets: dict[str, RelationStatus]
    views: dict[str, RelationStatus]
