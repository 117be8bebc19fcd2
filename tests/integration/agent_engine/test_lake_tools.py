"""The lake's tools: whose authority they use, what the model is given, and how refusals are told."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.fakes.lake_server import FakeLake, serve_fake_lake
from tests.fakes.model_server import say, use
from tests.integration.agent_engine.conftest import Caller, World

from weir_shared.auth.keys import TICKET_KEY, load_or_create_key_pair
from weir_shared.auth.tickets import TicketInspector
from weir_shared.db.pool import Database

TOOLS = ["lake_tables", "lake_query"]


@pytest.fixture
async def lake(tmp_path: Path) -> AsyncIterator[FakeLake]:
    async with serve_fake_lake() as fake:
        fake.inspector = TicketInspector(
            load_or_create_key_pair(tmp_path / "keys", TICKET_KEY).public, "context-lake"
        )
        yield fake


@pytest.fixture
async def studio(lake: FakeLake, tmp_path: Path, start_world) -> AsyncIterator[World]:
    async with start_world(tmp_path, lake_url=lake.url) as world:
        yield world


@pytest.fixture
def caller(studio: World, tenant_id: str) -> Caller:
    return studio.caller(tenant_id, subject="somebody")


def rows(count: int, width: int = 1) -> dict:
    return {
        "rows": [{"n": n, "text": "x" * width} for n in range(count)],
        "schema": [{"name": "n", "type": "Int64"}, {"name": "text", "type": "Utf8"}],
        "rowCount": count,
        "truncated": False,
    }


async def test_a_query_runs_as_the_caller_and_its_rows_reach_the_model(
    studio: World, caller: Caller, lake: FakeLake
) -> None:
    lake.answer = rows(2)
    assistant = await studio.assistant(
        caller, use("lake_query", {"query": "select 1"}), say("Two."), tools=TOOLS
    )
    turn = await caller.chat(assistant.schema)
    shown = {"columns": ["n", "text"], "rows": [[0, "x"], [1, "x"]], "row_count": 2}
    assert json.loads(turn.one("tool_result")["output"]) == shown
    told = assistant.brain.requests[1]["messages"][-1]["content"]
    assert json.loads(told.removeprefix("<tool_output>\n").removesuffix("\n</tool_output>")) == shown
    assert lake.callers == [caller.principal]
    [(path, asked)] = lake.asked
    assert path == "/v1/context-lake/sql"
    assert asked["query"] == "select 1"
    assert 100 < asked["timeoutSeconds"] <= 120
    offered = [tool["function"]["name"] for tool in assistant.brain.requests[0]["tools"]]
    assert offered == TOOLS


@pytest.mark.parametrize(("count", "width"), [(201, 1), (100, 1000)])
async def test_an_answer_too_long_for_a_model_is_cut_and_says_so(
    studio: World, caller: Caller, lake: FakeLake, count: int, width: int
) -> None:
    lake.answer = rows(count, width)
    assistant = await studio.assistant(
        caller, use("lake_query", {"query": "select 1"}), say("ok"), tools=TOOLS
    )
    output = (await caller.chat(assistant.schema)).one("tool_result")["output"]
    shown = json.loads(output)
    assert shown["row_count"] == len(shown["rows"]) < count
    assert f"first {shown['row_count']} rows" in shown["note"]
    assert len(output) < 33_000


async def test_tables_are_told_with_their_columns_and_faults(
    studio: World, caller: Caller, lake: FakeLake
) -> None:
    column = {"name": "id", "type": "Int64", "nullable": True}
    lake.answer = {
        "tables": [
            {"name": "flights", "kind": "dataset", "description": "All", "columns": [column], "error": None},
            {"name": "odd", "kind": "view", "columns": None, "error": "cannot be read"},
        ]
    }
    assistant = await studio.assistant(caller, use("lake_tables"), say("ok"), tools=TOOLS)
    output = (await caller.chat(assistant.schema)).one("tool_result")["output"]
    assert json.loads(output)["tables"] == [
        {
            "name": "flights",
            "kind": "dataset",
            "description": "All",
            "columns": [{"name": "id", "type": "Int64"}],
        },
        {"name": "odd", "kind": "view", "error": "cannot be read"},
    ]


async def test_a_table_is_told_with_its_columns(studio: World, caller: Caller, lake: FakeLake) -> None:
    columns = [{"name": f"c{n}", "type": "utf8", "nullable": n > 0} for n in range(1000)]
    lake.answer = {
        "tables": [{"name": "Sales.Flights", "kind": "view", "description": "All", "columns": columns}]
    }
    assistant = await studio.assistant(
        caller, use("lake_schema", {"table": "sales.flights"}), say("ok"), tools=["lake_schema"]
    )
    output = (await caller.chat(assistant.schema)).one("tool_result")["output"]
    shown = json.loads(output)
    assert (shown["name"], shown["kind"], shown["description"]) == ("Sales.Flights", "view", "All")
    assert shown["columns"][0] == {"name": "c0", "type": "utf8", "nullable": False}
    assert shown["note"] == f"Only the first {len(shown['columns'])} of 1000 columns are shown."
    assert len(output) < 33_000


@pytest.mark.parametrize("tool", ["lake_schema", "lake_sample"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "needs the argument `table`"),
        ({"table": 5}, "needs the argument `table`"),
        ({"table": "flight"}, "did you mean flights?"),
        ({"table": 'flights"; drop table flights; --'}, "There is no table"),
        ({"table": "x" * 100_000}, "There is no table"),
    ],
)
async def test_a_table_that_is_not_there_is_told_with_the_nearest(
    studio: World, caller: Caller, lake: FakeLake, tool: str, arguments: dict, words: str
) -> None:
    lake.answer = {"tables": [{"name": "flights", "kind": "dataset", "columns": []}]}
    assistant = await studio.assistant(caller, use(tool, arguments), say("ok"), tools=[tool])
    output = (await caller.chat(assistant.schema)).one("tool_result")["output"]
    assert output.startswith("[ERROR]")
    assert words in output
    assert len(output) < 500
    assert [path for path, _ in lake.asked if path.endswith("/sql")] == []


@pytest.mark.parametrize("rows", [0, 51, "5", True, None, 2.5])
async def test_a_sample_has_1_to_50_rows(studio: World, caller: Caller, lake: FakeLake, rows: object) -> None:
    asked = use("lake_sample", {"table": "flights", "rows": rows})
    assistant = await studio.assistant(caller, asked, say("ok"), tools=["lake_sample"])
    output = (await caller.chat(assistant.schema)).one("tool_result")["output"]
    assert output == "[ERROR] lake_sample takes `rows` from 1 to 50"
    assert lake.asked == []


@pytest.mark.parametrize("cell", ["x" * 1_000_000, ["deep" * 100_000], "AAEC/w==" * 50_000])
async def test_huge_values_are_cut_and_the_row_is_still_shown(
    studio: World, caller: Caller, lake: FakeLake, cell: object
) -> None:
    lake.answer = rows(1)
    lake.answer["rows"][0]["text"] = cell
    assistant = await studio.assistant(
        caller, use("lake_query", {"query": "select 1"}), say("ok"), tools=TOOLS
    )
    output = (await caller.chat(assistant.schema)).one("tool_result")["output"]
    [[number, text]] = json.loads(output)["rows"]
    assert (number, text[-1]) == (0, "…")
    assert "longer than 4000 characters" in json.loads(output)["note"]
    assert len(output) < 5000


async def test_a_row_of_a_thousand_columns_fits(studio: World, caller: Caller, lake: FakeLake) -> None:
    names = [f"c{n}" for n in range(1000)]
    lake.answer = {
        "rows": [dict.fromkeys(names, "y" * 500)],
        "schema": [{"name": name, "type": "Utf8"} for name in names],
        "rowCount": 1,
        "truncated": False,
    }
    assistant = await studio.assistant(
        caller, use("lake_query", {"query": "select 1"}), say("ok"), tools=TOOLS
    )
    output = (await caller.chat(assistant.schema)).one("tool_result")["output"]
    shown = json.loads(output)
    assert [len(row) for row in shown["rows"]] == [1000]
    assert "are cut" in shown["note"]
    assert len(output) < 64 * 1024


async def test_a_sample_asks_for_the_first_rows_and_cuts_long_values(
    studio: World, caller: Caller, lake: FakeLake
) -> None:
    row = {"text": "x" * 100_000, "list": list(range(100)), "n": 1}
    lake.answer = {
        "tables": [{"name": "sales.flights", "kind": "dataset", "columns": []}],
        "rows": [row] * 5,
        "schema": [{"name": name, "type": "utf8"} for name in row],
        "rowCount": 5,
        "truncated": False,
    }
    assistant = await studio.assistant(
        caller, use("lake_sample", {"table": "sales.flights"}), say("ok"), tools=["lake_sample"]
    )
    shown = json.loads((await caller.chat(assistant.schema)).one("tool_result")["output"])
    assert shown["row_count"] == 5
    assert shown["rows"][0][0] == "x" * 4000 + "…"
    assert shown["rows"][0][1] == list(range(100))
    assert "longer than 4000 characters are cut" in shown["note"]
    assert shown["rows"][0][2] == 1
    asked = lake.asked[-1][1]
    assert asked["query"] == 'select * from "sales"."flights" limit 5'


async def test_a_table_that_cannot_be_read_has_no_sample(
    studio: World, caller: Caller, lake: FakeLake
) -> None:
    lake.answer = {"tables": [{"name": "odd", "kind": "view", "columns": None, "error": "no such file"}]}
    assistant = await studio.assistant(
        caller, use("lake_sample", {"table": "odd"}), say("ok"), tools=["lake_sample"]
    )
    output = (await caller.chat(assistant.schema)).one("tool_result")["output"]
    assert output == "[ERROR] The table 'odd' cannot be read: no such file"


async def test_what_the_lake_refuses_is_told_to_the_model_and_the_turn_goes_on(
    studio: World, caller: Caller, lake: FakeLake
) -> None:
    lake.status, lake.answer = 400, {"error": "no column named x", "code": "invalid_sql"}
    assistant = await studio.assistant(
        caller, use("lake_query", {"query": "select x"}), say("Sorry."), tools=TOOLS
    )
    turn = await caller.chat(assistant.schema)
    assert turn.one("tool_result")["output"] == "[ERROR] no column named x"
    assert turn.one("tool_result")["has_error"] is True
    assert turn.one("message")["content"] == "Sorry."


async def test_a_query_without_sql_never_reaches_the_lake(
    studio: World, caller: Caller, lake: FakeLake
) -> None:
    assistant = await studio.assistant(caller, use("lake_query", {"query": 5}), say("ok"), tools=TOOLS)
    assert "needs the argument" in (await caller.chat(assistant.schema)).one("tool_result")["output"]
    assert lake.asked == []


async def test_a_configured_tool_that_is_not_there_yet_is_not_offered(
    studio: World, caller: Caller, database: Database
) -> None:
    assistant = await studio.assistant(caller, say("ok"))
    async with database.any_tenant() as connection:
        await connection.execute(
            "update agents set tools = '{tool_of_a_newer_version}' where name = $1", assistant.agent
        )
    await caller.chat(assistant.schema)
    assert "tools" not in assistant.brain.requests[0]
