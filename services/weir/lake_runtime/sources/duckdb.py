"""Tables of a DuckDB file, opened read-only; the file's own views reach no other file and no network."""

import threading
import weakref
from collections.abc import Generator
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.settings import MEBIBYTE, RuntimeSettings
from weir.lake_runtime.sources.conditions import Dialect, SourceColumn
from weir.lake_runtime.sources.database import Asked, DatabaseTable, Query, answers_whole
from weir.lake_runtime.sources.file import jailed_file
from weir.lake_runtime.sources.whole_query import standard_order
from weir.lake_runtime.sources.wording import cast, is_plain, literal, quote_name
from weir.lake_runtime.wire import Dataset

_BATCH_ROWS = 16_384
_CONFIGURATION: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "threads": "1",
    "memory_limit": "256MB",
}
_opening = threading.Lock()
DIALECT = Dialect(name=quote_name, literal=literal, text_order=lambda sql: sql)


class Whole:
    """Whole queries. What the file's engine adds up exactly, and wider than the lake's, is cut to its size."""

    conditions = DIALECT
    every_row = ""
    ordered = staticmethod(standard_order)

    def value(self, column: SourceColumn) -> SourceColumn:
        kind = column.type
        if column.kind in ("text", "uuid"):
            sql = f'CAST({column.selected} AS VARCHAR) COLLATE "C"'
            return replace(column, selected=sql, compared=sql, kind="text")
        is_carried = pa.types.is_floating(kind) or pa.types.is_time(kind) or pa.types.is_decimal256(kind)
        return replace(column, kind="opaque") if is_carried else column

    def output(self, sql: str, type: pa.DataType) -> str:
        return sql

    def aggregate(self, name: str, sql: str, type: pa.DataType, answer: pa.DataType) -> str | None:
        is_number = pa.types.is_integer(type)
        match name:
            case "min" | "max":
                return f"{name}({sql})"
            case "sum" if is_number:
                return f"CAST(sum({sql}) AS BIGINT)"
            case "sum":
                return f"CAST(sum({sql}) AS DECIMAL({answer.precision}, {answer.scale}))"
            case "avg" if is_number:
                return f"CAST(sum({sql}) AS DOUBLE) / NULLIF(count({sql}), 0)"
            case _:
                return None


def open_table(dataset: Dataset, settings: RuntimeSettings) -> DatabaseTable:
    path = jailed_file(dataset, str(dataset.options.get("duckdb_open") or ""), settings.import_root)
    parts = [str(part) for part in dataset.options.get("table") or []]
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise SourceError(dataset.name, "the table must read schema.table")
    # The file is the one database here; what it was called elsewhere does not matter.
    source = ".".join(quote_name(part) for part in parts[-2:])
    database = DuckDb(dataset.name, str(path), settings, answers_whole=answers_whole(dataset))
    table = DatabaseTable(database, source, columns_of(database, source))
    weakref.finalize(table, database.close)
    return table


class DuckDb:
    def __init__(
        self, dataset: str, path: str, settings: RuntimeSettings, *, answers_whole: bool = False
    ) -> None:
        import duckdb  # noqa: PLC0415 - loaded with the first such dataset

        self.dataset = dataset
        self.dialect = DIALECT
        self.whole = Whole()
        self.answers_whole = answers_whole
        self.server = f"duckdb:{path}"
        try:
            with _opening:
                self._connection = duckdb.connect(path, read_only=True, config=_configuration(settings))
                _settle(self._connection)
        except duckdb.Error as error:
            raise SourceError(dataset, _reason(error, path)) from None
        self._path = path

    def stream(self, query: Query, schema: pa.Schema) -> Generator[pa.RecordBatch]:
        return self.ask(query.sql, schema, Asked())

    def ask(self, sql: str, schema: pa.Schema, asked: Asked) -> Generator[pa.RecordBatch]:
        try:
            for batch in self.read(sql, asked):
                yield cast(batch, schema)
        finally:
            asked.ends()

    def read(self, sql: str, asked: Asked | None = None) -> Any:
        """The statement's batches, made as they are asked for; a connection of its own runs it."""
        import duckdb  # noqa: PLC0415

        cursor = self._connection.cursor()
        if asked is not None:
            asked.begins(cursor.interrupt)
        try:
            return cursor.sql(sql).to_arrow_reader(_BATCH_ROWS)
        except duckdb.Error as error:
            raise SourceError(self.dataset, _reason(error, self._path)) from None

    def close(self) -> None:
        self._connection.close()


def _configuration(settings: RuntimeSettings) -> dict[str, str | bool | int | float | list[str]]:
    """Groups that are too many for its memory go where the lake's own go."""
    folder = settings.spill_dir / "duckdb"
    folder.mkdir(parents=True, exist_ok=True)
    most = f"{settings.spill_bytes // MEBIBYTE}MiB"
    return {**_CONFIGURATION, "temp_directory": str(folder), "max_temp_directory_size": most}


def _settle(connection: Any) -> None:
    """Connections to one file share one instance: it is locked when another dataset has opened it."""
    if connection.execute("SELECT current_setting('lock_configuration')").fetchall() == [(False,)]:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET lock_configuration = true")


def columns_of(database: DuckDb, source: str) -> list[SourceColumn]:
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
        # A column may have a collation of its own, which knows no capitals.
        return SourceColumn(
            name=name, type=pa.string(), selected=quoted, compared=f'{quoted} COLLATE "C"', kind="text"
        )
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
