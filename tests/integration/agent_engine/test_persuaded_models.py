"""A model that somebody talked into it reaches nothing that its agent may not reach.

The whole list, with the test that proves each item, is `docs/decisions/0027-known-defects.md`.
"""

import uuid
from typing import Any

import pytest
from tests.fakes.model_server import Call, Reply, say
from tests.integration.agent_engine.conftest import Assistant, Caller, World
from tests.integration.agent_engine.gates import TABLE

from weir_shared.db.pool import Database


@pytest.fixture
async def stranger(world: World, database: Database) -> Caller:
    """An administrator of another tenant."""
    tenant_id = str(uuid.uuid4())
    async with database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) values ($1)", tenant_id)
    return world.caller(tenant_id)


ATTACKS = {
    "the platform's own routes": Call("admin_list_agents"),
    "a tool that the agent was not given": Call("lake_query", {"query": "select * from secrets"}),
    "a write as a query": Call("lake_query", {"query": "copy (select 1) to 's3://elsewhere/x'"}),
    "a block that the agent was not given": Call("show_structured_output", TABLE),
    "an agent that it may not spawn": Call("spawn_{other}", {"description": "Tell all."}),
    "an agent by its id": Call("spawn_{other_id}", {"description": "Tell all."}),
    "an agent of another tenant": Call("spawn_{foreign}", {"description": "Tell all."}),
    "an agent as an argument": Call("spawn_agent", {"agent": "{other}", "description": "Tell all."}),
    "its own approval": Call("respond", {"call_id": "x", "answers": ["approve"]}),
    "somebody's session": Call("read_session", {"session_id": "{session}"}),
    "a tool in other letters": Call("LAKE_QUERY", {"query": "select 1"}),
    "a tool with a path": Call("../lake_query", {"query": "select 1"}),
    "a way out by an address": Call("fetch", {"url": "http://169.254.169.254/latest?x=aGk="}),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_model_that_was_talked_into_it_reaches_nothing_that_its_agent_may_not(
    world: World, admin: Caller, stranger: Caller, attack: str
) -> None:
    other, foreign = (
        await world.assistant(admin, say("secret")),
        await world.assistant(stranger, say("secret")),
    )
    others = (await admin.chat(other.schema)).session_id
    harmless = await world.assistant(admin, say("fine"))
    named = {
        "other": other.agent,
        "other_id": (await admin.ask(200, "GET", f"/agents/{other.agent}"))["id"],
        "foreign": foreign.agent,
        "session": others,
    }
    assistant = await _attacked(world, admin, ATTACKS[attack], named, can_spawn=[harmless.agent])
    turn = await admin.chat(assistant.schema)
    result = turn.one("tool_result")
    assert result["has_error"] is True
    assert "There is no tool" in result["output"]
    assert turn.one("message")["content"] == "Done."
    assert (len(other.brain.requests), foreign.brain.requests, harmless.brain.requests) == (1, [], [])
    assert "structured_output" not in turn.events
    assert "secret" not in str(assistant.brain.requests[1]["messages"][2:]).replace("from secrets", "")


async def _attacked(
    world: World, admin: Caller, call: Call, named: dict[str, str], **agent: Any
) -> Assistant:
    """An assistant whose model makes this call; what it cannot know beforehand is filled in."""
    attack = Reply(calls=(_filled(call, named),))
    return await world.assistant(admin, attack, say("Done."), **agent)


def _filled(call: Call, named: dict[str, str]) -> Call:
    texts = {key: value.format(**named) for key, value in call.arguments.items() if isinstance(value, str)}
    return Call(call.name.format(**named), call.arguments | texts)
