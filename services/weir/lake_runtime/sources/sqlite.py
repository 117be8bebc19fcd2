"""Tables of an SQLite file, opened read-only and unchanging.

SQLite types values, not columns: a column has the type that its declaration promises, and a value that
is not of it is an error which names the column.
"""

import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pyarrow as pa
from msgspec.structs import replace

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources import rows
from weir.lake_runtime.sources.conditions import Dialect, SourceColumn
from weir.lake_runtime.sources.database import Asked, DatabaseTable, Query, answers_whole
from weir.lake_runtime.sources.file import jailed_file
from weir.lake_runtime.sources.whole_query import standard_order
from weir.lake_runtime.sources.wording import literal, quote_name, quote_text
from weir.lake_runtime.wire import Dataset

_ALLOWED = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_WITH_RIGHT_JOINS = (3, 39)
_REFUSAL = "weir_refuses"
# `=` would follow the column's collation, which may not tell capitals apart.
DIALECT = Dialect(
    name=quote_name,
    literal=literal,
    text_order=lambda sql: f"{sql} COLLATE BINARY",
    is_equality_exact=False,
)


def open_table(dataset: Dataset, settings: RuntimeSettings) -> DatabaseTable:
    path = jailed_file(dataset, str(dataset.options.get("sqlite_open") or ""), settings.import_root)
    parts = [str(part) for part in dataset.options.get("table") or []]
    if not parts or parts[:-1] not in ([], ["main"]) or not parts[-1]:
        raise SourceError(dataset.name, "the table must be one name")
    database = Sqlite(dataset, f"file:{quote(str(path))}?mode=ro&immutable=1")
    return DatabaseTable(database, quote_name(parts[-1]), _columns(database, parts[-1]))


class Whole:
    """Whole queries. A value that is not of its column's type fails there as it fails here."""

    conditions = replace(DIALECT, asks_twice=True)
    every_row = " LIMIT -1"
    ordered = staticmethod(standard_order)

    def value(self, column: SourceColumn) -> SourceColumn:
        if column.kind == "text":
            sql = f"CAST({column.selected} AS TEXT) COLLATE BINARY"
        elif pa.types.is_integer(column.type):
            otherwise = f"{_REFUSAL}({quote_text(column.name)})"
            sql = f"CASE WHEN typeof({column.selected}) IN ('integer', 'null') THEN {column.selected} ELSE {otherwise} END"
        else:
            # Floats, and truth, which is any number there.
            return replace(column, kind="opaque")
        return replace(column, selected=sql, compared=sql)

    def output(self, sql: str, type: pa.DataType) -> str:
        return sql

    def aggregate(self, name: str, sql: str, type: pa.DataType, answer: pa.DataType) -> str | None:
        match name:
            case "min" | "max" | "sum":
                return f"{name}({sql})"
            case "avg":
                return f"CAST(sum({sql}) AS REAL) / NULLIF(count({sql}), 0)"
            case _:
                return None


class Sqlite:
    def __init__(self, dataset: Dataset, url: str) -> None:
        self.dataset = dataset.name
        self.dialect = DIALECT
        self.whole = Whole()
        self.answers_whole = answers_whole(dataset) and sqlite3.sqlite_version_info >= _WITH_RIGHT_JOINS
        self.server = f"sqlite:{url}"
        self._url = url

    def stream(self, query: Query, schema: pa.Schema) -> Generator[pa.RecordBatch]:
        return self.ask(query.sql, schema, Asked())

    def ask(self, sql: str, schema: pa.Schema, asked: Asked) -> Generator[pa.RecordBatch]:
        wrong: list[str] = []
        try:
            # Opening costs less than a statement; a connection belongs to one scan.
            with closing(self._connect()) as connection:
                connection.create_function(_REFUSAL, 1, _refusing(wrong))
                asked.begins(connection.interrupt)
                cursor = connection.execute(sql)
                yield from rows.batches(self.dataset, cursor.fetchmany, schema, _array)
        except sqlite3.Error as error:
            reason = f"column {wrong[0]!r} holds a value that is no int64" if wrong else str(error)
            raise SourceError(self.dataset, reason) from None
        finally:
            asked.ends()

    def describe(self, table: str) -> list[tuple[str, str, bool]]:
        """Names, declared types and whether null is refused, of a table or view."""
        try:
            with closing(self._connect(only_select=False)) as connection:
                found = connection.execute(f"PRAGMA table_xinfo({quote_name(table)})").fetchall()
        except sqlite3.Error as error:
            raise SourceError(self.dataset, str(error)) from None
        if not found:
            raise SourceError(self.dataset, f"there is no table {table!r}")
        # Hidden columns of virtual tables are the last field's 1; generated ones are 2 and 3.
        return [(row[1], row[2].upper(), bool(row[3])) for row in found if row[6] != 1]

    def _connect(self, *, only_select: bool = True) -> sqlite3.Connection:
        # A scan may be taken up by another of the engine's threads; never by two at once.
        connection = sqlite3.connect(self._url, uri=True, check_same_thread=False, cached_statements=0)
        connection.execute("PRAGMA trusted_schema = OFF")
        if only_select:
            connection.set_authorizer(_authorize)
        return connection


def _refusing(wrong: list[str]) -> Callable[[str], None]:
    def refuse(column: str) -> None:
        wrong.append(column)
        raise ValueError(column)

    return refuse


def _authorize(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _columns(database: Sqlite, table: str) -> list[SourceColumn]:
    return [_column(name, declared, is_required) for name, declared, is_required in database.describe(table)]


def _column(name: str, declared: str, is_required: bool) -> SourceColumn:
    """By the rules of SQLite's own "column affinity", and BOOLEAN, which it knows as a number."""
    quoted = quote_name(name)
    if "INT" in declared:
        found, kind = pa.int64(), "plain"
    elif "BOOL" in declared:
        found, kind = pa.bool_(), "plain"
    elif any(word in declared for word in ("REAL", "FLOA", "DOUB", "NUM", "DEC")):
        found, kind = pa.float64(), "plain"
    elif "BLOB" in declared:
        found, kind = pa.binary(), "opaque"
    else:
        # Dates are text here; so is what no type was declared for.
        found, kind = pa.string(), "text"
    selected = quoted
    if kind == "text" and not any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
        selected = f"CAST({quoted} AS TEXT)"
    return SourceColumn(
        name=name,
        type=found,
        selected=selected,
        compared=selected,
        kind=kind,  # type: ignore[arg-type]
        is_nullable=not is_required,
    )


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_boolean(kind):
        return pa.array([None if value is None else bool(value) for value in values], kind)
    if pa.types.is_floating(kind):
        # A column of declared decimals holds whole numbers too.
        return pa.array([float(v) if isinstance(v, int) else v for v in values], kind)
    return pa.array(values, kind)
