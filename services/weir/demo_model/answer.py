"""Results as text that a person reads; nothing is said that is not in the result."""

from typing import Any

import msgspec
from msgspec import Struct

from weir.demo_model.catalogue import Table

MOST_ROWS = 25


class Result(Struct, frozen=True):
    columns: list[str]
    rows: list[list[Any]]
    row_count: int
    note: str | None = None


def tell_result(text: str) -> str:
    """One value as a sentence, anything else as a table in Markdown."""
    try:
        result = msgspec.json.decode(text, type=Result)
    except (msgspec.MsgspecError, RecursionError):
        return "The lake answered in a form that I cannot read."
    if not result.rows:
        return "The lake answered with no rows."
    if len(result.rows) == 1 and len(result.columns) == 1:
        return f"The {result.columns[0]} is {_shown(result.rows[0][0])}."
    return _table(result)


def show_tables(tables: list[Table], *, with_columns: bool) -> str:
    lines = [_described(table, with_columns=with_columns) for table in tables]
    opening = "Your lake has these tables:" if not with_columns else "Here is what is in it:"
    return "\n".join([opening, *lines])


def _described(table: Table, *, with_columns: bool) -> str:
    line = f"- **{table.name}** ({table.kind})" + (f": {table.description}" if table.description else "")
    if table.error:
        return f"{line} cannot be read: {table.error}"
    if with_columns:
        return "\n".join([line, *(f"  - {column.name} {column.type}" for column in table.columns)])
    return f"{line}, {len(table.columns)} columns"


def _table(result: Result) -> str:
    rows = [" | ".join(_shown(value) for value in row) for row in result.rows[:MOST_ROWS]]
    head = [" | ".join(result.columns), " | ".join("---" for _ in result.columns)]
    lines = [f"| {line} |" for line in (*head, *rows)]
    if len(result.rows) > MOST_ROWS or result.note:
        lines.append("")
        lines.append(f"These are the first {min(len(result.rows), MOST_ROWS)} rows; there are more.")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    match value:
        case None:
            return "(none)"
        case bool():
            return str(value).lower()
        case int():
            # A year is not a quantity.
            return f"{value:,}" if abs(value) >= 10_000 else str(value)
        case float():
            return f"{value:,.2f}"
        case _:
            return str(value).replace("|", "\\|").replace("\n", " ")
