"""The log of tool calls: every call is in it, as it was made and as it went, for administrators only."""

from typing import Any

import pytest
from tests.fakes.model_server import Call, Reply, say, use
from tests.integration.agent_engine.conftest import Caller, World
from tests.integration.agent_engine.test_sub_agents import spawn, sub_agent

from weir.agent_engine import jobs

BLOCK = {"output_type": "info", "title": "Hi", "description": "Hello."}
TOOLS = ["show_structured_output"]


async def logged(caller: Caller, query: str = "") -> dict[str, Any]:
    return await caller.ask(200, "GET", f"/audit/tool-calls{query}")


async def test_a_call_is_logged_with_what_was_asked_and_answered(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, use("show_structured_output", BLOCK), say("ok"), tools=TOOLS)
    turn = await admin.chat(assistant.schema)
    page = await logged(admin)
    assert (page["total"], page["page"], page["per_page"], page["total_pages"]) == (1, 1, 50, 1)
    [row] = page["data"]
    assert (row["session_id"], row["agent_name"], row["user_id"]) == (
        turn.session_id,
        assistant.agent,
        "local-admin",
    )
    assert (row["tool_name"], row["input"], row["status"]) == ("show_structured_output", BLOCK, "completed")
    assert row["output"] == turn.one("tool_result")["output"]
    assert row["duration_ms"] >= 0


async def test_a_failed_call_is_logged_as_one(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, use("no_such", {}), say("Sorry."))
    await admin.chat(assistant.schema)
    [row] = (await logged(admin, "?status=failed"))["data"]
    assert row["status"] == "failed"
    assert "no tool" in row["output"]
    assert (await logged(admin, "?status=completed"))["data"] == []


async def test_the_calls_of_a_sub_agent_stand_under_its_own_name(world: World, admin: Caller) -> None:
    child, _ = await sub_agent(world, admin, use("no_such", {}), say("849"))
    assistant = await world.assistant(admin, spawn(child), say("Yes."), can_spawn=[child])
    await admin.chat(assistant.schema)
    rows = (await logged(admin))["data"]
    assert {(row["agent_name"], row["tool_name"], row["status"]) for row in rows} == {
        (assistant.agent, f"spawn_{child}", "completed"),
        (child, "no_such", "failed"),
    }
    [row] = (await logged(admin, f"?agent={child}"))["data"]
    assert row["tool_name"] == "no_such"


async def test_as_many_calls_are_logged_as_a_client_has_seen(world: World, admin: Caller) -> None:
    calls = tuple(Call("no_such" if n % 2 else "show_structured_output", BLOCK) for n in range(7))
    assistant = await world.assistant(
        admin, Reply(calls=calls), say("ok"), tools=TOOLS, tool_execution="parallel"
    )
    seen = (await admin.chat(assistant.schema)).of("tool_result")
    page = await logged(admin)
    assert page["total"] == len(seen) == 7
    assert sum(row["status"] == "failed" for row in page["data"]) == sum(
        frame.data["has_error"] for frame in seen
    )


async def test_filters_combine_and_pages_are_whole(world: World, admin: Caller) -> None:
    calls = tuple(Call("show_structured_output", BLOCK) for _ in range(5))
    assistant = await world.assistant(admin, Reply(calls=calls), say("ok"), tools=TOOLS)
    turn = await admin.chat(assistant.schema)
    pages = [await logged(admin, f"?per_page=2&page={number}") for number in (1, 2, 3, 4)]
    assert [len(page["data"]) for page in pages] == [2, 2, 1, 0]
    assert pages[0]["total_pages"] == 3
    ids = [row["id"] for page in pages for row in page["data"]]
    assert ids == sorted(ids, reverse=True)
    both = f"?session_id={turn.session_id}&tool=show_structured_output&user_id=local-admin"
    assert (await logged(admin, both))["total"] == 5
    assert (await logged(admin, f"{both}&status=failed"))["total"] == 0
    assert (await logged(admin, "?from=2026-03-01&to=2999-01-01"))["total"] == 5
    assert (await logged(admin, "?from=2999-01-01"))["total"] == 0


async def test_a_day_as_the_end_is_included(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, use("show_structured_output", BLOCK), say("ok"), tools=TOOLS)
    await admin.chat(assistant.schema)
    [row] = (await logged(admin))["data"]
    day = row["created_at"][:10]
    assert (await logged(admin, f"?from={day}&to={day}"))["total"] == 1
    assert (await logged(admin, f"?to={day}T00:00:00Z"))["total"] == 0


async def test_calls_outlive_their_session(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, use("show_structured_output", BLOCK), say("ok"), tools=TOOLS)
    turn = await admin.chat(assistant.schema)
    await admin.ask(204, "DELETE", f"/sessions/{turn.session_id}")
    [row] = (await logged(admin))["data"]
    assert (row["session_id"], row["status"], row["input"]) == (None, "completed", BLOCK)


async def test_a_call_whose_turn_was_given_up_has_failed(world: World, admin: Caller, database: Any) -> None:
    assistant = await world.assistant(admin, use("show_structured_output", BLOCK), say("ok"), tools=TOOLS)
    turn = await admin.chat(assistant.schema)
    # As a process that was killed between a call and its result leaves it.
    async with database.any_tenant() as connection:
        await connection.execute(
            "update tool_calls set status = 'running' where session_id = $1", turn.session_id
        )
        await connection.execute("update turns set status = 'running' where session_id = $1", turn.session_id)
        await connection.execute("update turns set status = 'failed' where session_id = $1", turn.session_id)
    [row] = (await logged(admin))["data"]
    assert row["status"] == "failed"
    assert "ended before" in row["output"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("from=yesterday", "from"),
        ("to=2026-99-01", "to"),
        ("session_id=x", "session_id"),
        ("status=done", "status"),
        ("page=0", "page"),
        ("page=x", "page"),
    ],
)
async def test_a_wrong_parameter_is_named(admin: Caller, query: str, named: str) -> None:
    answer = await admin.call("GET", f"/audit/tool-calls?{query}")
    assert answer.status_code == 400
    assert named in answer.json()["message"]


async def test_only_administrators_of_the_tenant_see_it(world: World, admin: Caller, tenant_id: str) -> None:
    assistant = await world.assistant(admin, use("show_structured_output", BLOCK), say("ok"), tools=TOOLS)
    await admin.chat(assistant.schema)
    user = world.caller(tenant_id, "chat", "config", "agents:read")
    await user.ask(403, "GET", "/audit/tool-calls")
    other = world.caller("11111111-1111-4111-8111-111111111111")
    assert (await logged(other))["total"] == 0


async def test_old_calls_are_removed_only_where_that_is_wanted(
    world: World, admin: Caller, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "REMOVED_AT_ONCE", 2)
    calls = tuple(Call("show_structured_output", BLOCK) for _ in range(5))
    assistant = await world.assistant(admin, Reply(calls=calls), say("ok"), tools=TOOLS)
    turn = await admin.chat(assistant.schema)
    newest = (await logged(admin))["data"][0]["id"]
    async with database.any_tenant() as connection:
        await connection.execute(
            "update tool_calls set created_at = now() - interval '31 days' where session_id = $1 and id <> $2",
            turn.session_id,
            newest,
        )
    for days, left in ((0, 5), (32, 5), (30, 1)):
        await jobs.forget_old_calls_any({jobs.PART: world.app.state.studio, jobs.AUDIT_DAYS: days})
        assert (await logged(admin))["total"] == left
