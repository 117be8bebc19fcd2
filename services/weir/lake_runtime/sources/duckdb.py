"""Tables of a DuckDB file, opened read-only; the file's own views reach no other file and no network."""

import threading
import weakref
from collections.abc import Generator
from typing import Any

import pyarrow as pa

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources.conditions import Dialect, SourceColumn
from weir.lake_runtime.sources.database import DatabaseTable, Query
from weir.lake_runtime.sources.file import jailed_file
from weir.lake_runtime.sources.wording import cast, is_plain, literal, quote_name
from weir.lake_runtime.wire import Dataset

_BATCH_ROWS = 16_384
_CONFIGURATION: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "temp_directory": "",
    "threads": "1",
    "memory_limit": "256MB",
}
_opening = threading.Lock()
DIALECT = Dialect(name=quote_name, literal=literal, text_order=lambda sql: sql)


def open_table(dataset: Dataset, settings: RuntimeSettings) -> DatabaseTable:
    path = jailed_file(dataset, str(dataset.options.get("duckdb_open") or ""), settings.import_root)
    parts = [str(part) for part in dataset.options.get("table") or []]
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise SourceError(dataset.name, "the table must read schema.table")
    # The file is the one database here; what it was called elsewhere does not matter.
    source = ".".join(quote_name(part) for part in parts[-2:])
    database = DuckDb(dataset.name, str(path))
    table = DatabaseTable(database, source, _columns(database, source))
    weakref.finalize(table, database.close)
    return table


class DuckDb:
    def __init__(self, dataset: str, path: str) -> None:
        import duckdb  # noqa: PLC0415 - loaded with the first such dataset

        self.dataset = dataset
        self.dialect = DIALECT
        try:
            with _opening:
                self._connection = duckdb.connect(path, read_only=True, config=_CONFIGURATION)
                _settle(self._connection)
        except duckdb.Error as error:
            raise SourceError(dataset, _reason(error, path)) from None
        self._path = path

    def stream(self, query: Query, schema: pa.Schema) -> Generator[pa.RecordBatch]:
        for batch in self.read(query.sql):
            yield cast(batch, schema)

    def read(self, sql: str) -> Any:
        """The statement's batches, made as they are asked for; a connection of its own runs it."""
        import duckdb  # noqa: PLC0415

        try:
            return self._connection.cursor().sql(sql).to_arrow_reader(_BATCH_ROWS)
        except duckdb.Error as error:
            raise SourceError(self.dataset, _reason(error, self._path)) from None

    def close(self) -> None:
        self._connection.close()


def _settle(connection: Any) -> None:
    """Connections to one file share one instance: it is locked when another dataset has opened it."""
    if connection.execute("SELECT current_setting('lock_configuration')").fetchall() == [(False,)]:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET lock_configuration = true")


def _columns(database: DuckDb, source: str) -> list[SourceColumn]:
    described = database.read(f"DESCRIBE SELECT * FROM {source}").read_all().to_pylist()  # noqa: S608 - a quoted name
    arrived = database.read(f"SELECT * FROM {source} LIMIT 0").schema  # noqa: S608 - a quoted name
    return [
        _column(row["column_name"], row["column_type"], field)
        for row, field in zip(described, arrived, strict=True)
    ]


def _column(name: str, declared: str, field: pa.Field) -> SourceColumn:
    quoted = quote_name(name)
    text = f"CAST({quoted} AS VARCHAR)"
    if declared == "VARCHAR":
        return SourceColumn(name=name, type=pa.string(), selected=quoted, compared=quoted, kind="text")
    if declared == "UUID":
        return SourceColumn(name=name, type=pa.string(), selected=text, compared=quoted, kind="uuid")
    if is_plain(field.type):
        found = pa.timestamp("us", "UTC") if declared == "TIMESTAMP WITH TIME ZONE" else field.type
        return SourceColumn(name=name, type=found, selected=quoted, compared=quoted)
    if declared == "BLOB" or pa.types.is_nested(field.type):
        return SourceColumn(name=name, type=field.type, selected=quoted, compared=quoted, kind="opaque")
    return SourceColumn(name=name, type=pa.string(), selected=text, compared=text, kind="text")


def _reason(error: Exception, path: str) -> str:
    text = str(error).partition("\n\nLINE ")[0].partition("\nLINE ")[0].replace(path, "the file")
    return " ".join(text.split())[:500]
