"""The lake as a tool: the agent asks with its caller's own authority, and never with more."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import msgspec

from weir.agent_engine.models.base import ToolDefinition
from weir.agent_engine.signals import ToolFailed
from weir.agent_engine.studio import Studio
from weir.agent_engine.tools.base import Call, Tool
from weir.agent_engine.tools.timed import Timed
from weir.agent_engine.turn_clock import TurnClock
from weir_shared.auth.principal import Principal
from weir_shared.clients.lake import Answer, LakeClient, LakeRefused, Table

# The lake ends a query by itself and says why; this is for when it does not.
SLACK_SECONDS = 10
MAX_ROWS = 200
MAX_BYTES = 32 * 1024
SAMPLE_ROWS = 5
MAX_SAMPLE_ROWS = 50
MAX_NAMED = 4000
MAX_CELL = 4000
# A cell of which less is shown tells nothing.
LEAST_CELL = 16
_TABLE = {"type": "string", "description": "The table's name, as lake_tables tells it."}


class LakeDesk:
    """The caller's way to the lake while a turn lasts."""

    def __init__(self, lake: LakeClient, principal: Principal, clock: TurnClock, *, seconds: int) -> None:
        self._lake = lake
        self._principal = principal
        self._clock = clock
        self._seconds = seconds

    async def sql(self, query: str, *, rows: int) -> Answer:
        """At most so many rows. Raises ToolFailed."""
        try:
            return await self._lake.sql(self._principal, query, max_rows=rows, seconds=self._seconds_left())
        except LakeRefused as refusal:
            raise ToolFailed(str(refusal)) from None

    async def tables(self) -> list[Table]:
        """Raises ToolFailed."""
        try:
            return await self._lake.tables(self._principal, seconds=self._seconds_left())
        except LakeRefused as refusal:
            raise ToolFailed(str(refusal)) from None

    async def table(self, call: Call) -> Table:
        """The one that the call's `table` names, as it is written or in other letters. Raises ToolFailed."""
        name = call.arguments.get("table")
        if not isinstance(name, str) or not name.strip():
            raise ToolFailed(
                f"{call.tool} needs the argument `table`: the name of one, as lake_tables tells it"
            )
        return _table_named(name.strip(), await self.tables())

    def _seconds_left(self) -> int:
        return max(1, min(self._seconds, int(self._clock.left)))


class LakeQuery:
    """Runs one SELECT."""

    definition = ToolDefinition(
        name="lake_query",
        description=(
            "Runs one SQL SELECT (DataFusion dialect) on the caller's context lake. "
            f"At most {MAX_ROWS} rows come back, so aggregate or limit. lake_tables tells the tables and columns."
        ),
        parameters={
            "type": "object",
            "properties": {"query": {"type": "string", "description": "One SELECT statement."}},
            "required": ["query"],
        },
    )

    def __init__(self, desk: LakeDesk) -> None:
        self._desk = desk

    async def run(self, call: Call) -> str:
        query = call.arguments.get("query")
        if not isinstance(query, str) or not query.strip():
            raise ToolFailed("lake_query needs the argument `query`: one SQL SELECT as text")
        # One row more than is shown tells whether there are more.
        return show_answer(await self._desk.sql(query, rows=MAX_ROWS + 1))


class LakeTables:
    """Lists what there is to query."""

    definition = ToolDefinition(
        name="lake_tables",
        description="Lists the tables of the caller's context lake with their columns and types.",
        parameters={"type": "object", "properties": {}},
    )

    def __init__(self, desk: LakeDesk) -> None:
        self._desk = desk

    async def run(self, call: Call) -> str:
        return show_tables(await self._desk.tables())


class LakeSchema:
    """Tells the columns of one table."""

    definition = ToolDefinition(
        name="lake_schema",
        description=(
            "Tells what one table of the caller's context lake is: its columns with their types and whether they "
            "may be null, and its description."
        ),
        parameters={"type": "object", "properties": {"table": _TABLE}, "required": ["table"]},
    )

    def __init__(self, desk: LakeDesk) -> None:
        self._desk = desk

    async def run(self, call: Call) -> str:
        return show_table(await self._desk.table(call))


class LakeSample:
    """Shows a few rows of one table."""

    definition = ToolDefinition(
        name="lake_sample",
        description=(
            "Shows a few rows of one table of the caller's context lake, whichever come first: "
            "what its values look like, not what there is."
        ),
        parameters={
            "type": "object",
            "properties": {
                "table": _TABLE,
                "rows": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MAX_SAMPLE_ROWS,
                    "description": f"How many rows; {SAMPLE_ROWS} unless told.",
                },
            },
            "required": ["table"],
        },
    )

    def __init__(self, desk: LakeDesk) -> None:
        self._desk = desk

    async def run(self, call: Call) -> str:
        rows = call.arguments.get("rows", SAMPLE_ROWS)
        if not isinstance(rows, int) or isinstance(rows, bool) or not 1 <= rows <= MAX_SAMPLE_ROWS:
            raise ToolFailed(f"lake_sample takes `rows` from 1 to {MAX_SAMPLE_ROWS}")
        table = await self._desk.table(call)
        if table.error:
            raise ToolFailed(f"The table '{table.name}' cannot be read: {table.error}")
        query = f"select * from {_quoted(table.name)} limit {rows}"  # noqa: S608 - a quoted name
        answer = await self._desk.sql(query, rows=rows)
        return show_answer(answer)


TOOLS = {tool.definition.name: tool for tool in (LakeQuery, LakeTables, LakeSchema, LakeSample)}


def lake_tools(names: Sequence[str], studio: Studio, principal: Principal, *, clock: TurnClock) -> list[Tool]:
    """Those of the names that are the lake's, for the caller, each timed; the turn's clock bounds them too."""
    desk = LakeDesk(studio.lake, principal, clock, seconds=studio.sql_seconds)
    seconds = studio.sql_seconds + SLACK_SECONDS
    return [Timed(TOOLS[name](desk), seconds=seconds) for name in names if name in TOOLS]


def show_answer(answer: Answer) -> str:
    """Compact JSON, rows as arrays; what does not fit is left out, and the note says so."""
    names = [column.name for column in answer.schema]
    columns = names[: _fitting(names, MAX_BYTES // 2)]
    rows = [[row.get(name) for name in columns] for row in answer.rows[:MAX_ROWS]]
    width, rows = _narrowed(rows)
    kept = _fitting(rows)
    shown: dict[str, Any] = {"columns": columns, "rows": rows[:kept], "row_count": kept}
    notes = list[str]()
    if kept < len(answer.rows) or answer.truncated:
        notes.append(f"Only the first {kept} rows are shown and there are more: aggregate, filter or limit.")
    if len(columns) < len(names):
        notes.append(
            f"Only the first {len(columns)} of {len(names)} columns are shown: select those that matter."
        )
    if width is not None:
        notes.append(f"Values longer than {width} characters are cut, and end with …")
    if notes:
        shown["note"] = " ".join(notes)
    return msgspec.json.encode(shown).decode()


def show_tables(tables: list[Table]) -> str:
    """Compact JSON; when it is too long, the last tables are only named."""
    entries = [_entry(table) for table in tables]
    kept = _fitting(entries)
    shown: dict[str, Any] = {"tables": entries[:kept]}
    if kept < len(entries):
        names = ", ".join(table.name for table in tables[kept:])[:MAX_NAMED]
        shown["note"] = f"Too many tables to describe; lake_schema tells each: {names}"
    return msgspec.json.encode(shown).decode()


def show_table(table: Table) -> str:
    """Compact JSON; when there are too many columns, the last are left out, and the note says so."""
    shown = _entry(table)
    if table.columns is not None:
        columns = [
            {"name": column.name, "type": column.type, "nullable": column.nullable}
            for column in table.columns
        ]
        kept = _fitting(columns)
        shown["columns"] = columns[:kept]
        if kept < len(columns):
            shown["note"] = f"Only the first {kept} of {len(columns)} columns are shown."
    return msgspec.json.encode(shown).decode()


def _table_named(name: str, tables: Sequence[Table]) -> Table:
    found = {table.name.lower(): table for table in tables} | {table.name: table for table in tables}
    table = found.get(name) or found.get(name.lower())
    if table is None:
        near = get_close_matches(name, [table.name for table in tables], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "lake_tables tells which there are"
        raise ToolFailed(f"There is no table '{name[:100]}'; {hint}")
    return table


def _quoted(name: str) -> str:
    """A table's name in SQL, each of its parts as it is written."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def _entry(table: Table) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": table.name, "kind": table.kind}
    if table.description:
        entry["description"] = table.description
    if table.columns is not None:
        entry["columns"] = [{"name": column.name, "type": column.type} for column in table.columns]
    if table.error:
        entry["error"] = table.error
    return entry


def _narrowed(rows: list[list[Any]]) -> tuple[int | None, list[list[Any]]]:
    """The rows with long values cut so that at least the first fits, and the longest that a value may then be.

    None when nothing was cut.
    """
    width = MAX_CELL
    cut = [[_cut(value, width) for value in row] for row in rows]
    while cut and not _fitting(cut[:1]) and width > LEAST_CELL:
        width //= 2
        cut = [[_cut(value, width) for value in row] for row in rows]
    return (None if cut == rows else width), cut


def _cut(value: Any, width: int) -> Any:
    if isinstance(value, list | dict):
        written = msgspec.json.encode(value).decode()
        return value if len(written) <= width else written[:width] + "…"
    return value[:width] + "…" if isinstance(value, str) and len(value) > width else value


def _fitting(items: list[Any], left: int = MAX_BYTES) -> int:
    """How many of the items fit into what a model is given."""
    for place, item in enumerate(items):
        left -= len(msgspec.json.encode(item)) + 1
        if left < 0:
            return place
    return len(items)
