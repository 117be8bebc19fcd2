"""The lake as a tool: the agent asks with its caller's own authority, and never with more."""

from typing import Any

import msgspec

from weir.agent_engine.models.base import ToolDefinition
from weir.agent_engine.signals import ToolFailed
from weir.agent_engine.tools.base import Call
from weir.agent_engine.turn_clock import TurnClock
from weir_shared.auth.principal import Principal
from weir_shared.clients.lake import Answer, LakeClient, LakeRefused, Table

MAX_ROWS = 200
MAX_BYTES = 32 * 1024


class LakeDesk:
    """The caller's way to the lake while a turn lasts."""

    def __init__(self, lake: LakeClient, principal: Principal, clock: TurnClock, *, seconds: int) -> None:
        self._lake = lake
        self._principal = principal
        self._clock = clock
        self._seconds = seconds

    async def sql(self, query: str) -> Answer:
        try:
            # One row more than is shown tells whether there are more.
            return await self._lake.sql(
                self._principal, query, max_rows=MAX_ROWS + 1, seconds=self._seconds_left()
            )
        except LakeRefused as refusal:
            raise ToolFailed(str(refusal)) from None

    async def tables(self) -> list[Table]:
        try:
            return await self._lake.tables(self._principal, seconds=self._seconds_left())
        except LakeRefused as refusal:
            raise ToolFailed(str(refusal)) from None

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
        return show_answer(await self._desk.sql(query))


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


def show_answer(answer: Answer) -> str:
    """Compact JSON, rows as arrays; what does not fit is left out, and the note says so."""
    columns = [column.name for column in answer.schema]
    rows = [[row.get(name) for name in columns] for row in answer.rows[:MAX_ROWS]]
    kept = _fitting(rows)
    shown: dict[str, Any] = {"columns": columns, "rows": rows[:kept], "row_count": kept}
    if kept < len(answer.rows) or answer.truncated:
        shown["note"] = (
            f"Only the first {kept} rows are shown and there are more: aggregate, filter or limit."
        )
    return msgspec.json.encode(shown).decode()


def show_tables(tables: list[Table]) -> str:
    """Compact JSON; when it is too long, the last tables are only named."""
    entries = [_entry(table) for table in tables]
    kept = _fitting(entries)
    shown: dict[str, Any] = {"tables": entries[:kept]}
    if kept < len(entries):
        shown["note"] = (
            "Too many tables to describe: " + ", ".join(table.name for table in tables[kept:])[:4000]
        )
    return msgspec.json.encode(shown).decode()


def _entry(table: Table) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": table.name, "kind": table.kind}
    if table.description:
        entry["description"] = table.description
    if table.columns is not None:
        entry["columns"] = [{"name": column.name, "type": column.type} for column in table.columns]
    if table.error:
        entry["error"] = table.error
    return entry


def _fitting(items: list[Any]) -> int:
    """How many of the items fit into what a model is given."""
    left = MAX_BYTES
    for place, item in enumerate(items):
        left -= len(msgspec.json.encode(item)) + 1
        if left < 0:
            return place
    return len(items)
