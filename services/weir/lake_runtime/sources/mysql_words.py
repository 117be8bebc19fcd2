"""MySQL's and MariaDB's own words: names, values, conditions, and whole queries that mean there what they mean here."""

from datetime import datetime

import pyarrow as pa
from msgspec.structs import replace

from weir.lake_runtime.sources.conditions import Dialect, SourceColumn, Value
from weir.lake_runtime.sources.whole_query import Order
from weir.lake_runtime.sources.wording import literal

# Null is the least there, whatever the direction.
_NULLS_ELSEWHERE = {"ASC NULLS LAST": "ASC", "DESC NULLS FIRST": "DESC"}


def quote_name(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def quote_text(text: str) -> str:
    """Backslashes mean something here."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''").replace("\0", "\\0") + "'"


def by_bytes(sql: str) -> str:
    """Its binary collations disregard trailing spaces; bytes do not."""
    return f"CAST(CONVERT({sql} USING utf8mb4) AS BINARY)"


def _literal(value: Value) -> str | None:
    if isinstance(value, str):
        return quote_text(value)
    if isinstance(value, datetime):
        # The session's zone is UTC.
        return f"TIMESTAMP '{value.replace(tzinfo=None).isoformat(sep=' ')}'"
    return literal(value)


DIALECT = Dialect(
    name=quote_name,
    literal=_literal,
    text_order=by_bytes,
    is_equality_exact=False,
)


class Whole:
    """Whole queries: texts are bytes, and dates of zeros are null before anything is computed."""

    conditions = replace(DIALECT, asks_twice=True)
    every_row = f" LIMIT {2**64 - 1}"

    def value(self, column: SourceColumn) -> SourceColumn:
        kind = column.type
        if column.kind == "text" and not column.is_long:
            sql = by_bytes(column.selected)
            return replace(column, selected=sql, compared=sql)
        if column.proper:
            sql = f"IF({column.proper}, {column.selected}, NULL)"
            return replace(column, selected=sql, compared=sql, proper="")
        is_carried = column.kind != "plain" or pa.types.is_floating(kind) or pa.types.is_decimal256(kind)
        return replace(column, kind="opaque") if is_carried else column

    def output(self, sql: str, type: pa.DataType) -> str:
        return sql

    def aggregate(self, name: str, sql: str, type: pa.DataType, answer: pa.DataType) -> str | None:
        # A sum is exact and of many digits; one without room in the engine's type is refused as it arrives.
        return f"{name}({sql})" if name in ("min", "max", "sum") else None

    def ordered(self, sql: str, order: Order) -> str:
        direction = _NULLS_ELSEWHERE.get(order)
        return (
            f"{sql} {order.partition(' ')[0]}"
            if direction is None
            else f"{sql} IS NULL {direction}, {sql} {direction}"
        )
