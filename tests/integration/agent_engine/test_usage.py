"""Usage: the tokens of every turn, by model, day and agent, as exact as the turns themselves."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.fakes.embedding_server import FakeEmbedder
from tests.fakes.model_server import USAGE, Reply, say, use
from tests.integration.agent_engine.conftest import Caller, World
from tests.integration.agent_engine.test_embedding import configure, embed, embedder, vectors
from tests.integration.agent_engine.test_sub_agents import spawn, sub_agent

from weir_shared.db.pool import Database

__all__ = ["embedder"]

BLOCK = {"output_type": "info", "title": "Hi", "description": "Hello."}
NOTHING = {
    "requests": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "cached_tokens": 0,
    "reasoning_tokens": 0,
    "total_tokens": 0,
}


def of(answers: int) -> dict[str, int]:
    """The sums of so many answers of the fake model."""
    return NOTHING | {
        "requests": answers,
        "input_tokens": answers * USAGE["prompt_tokens"],
        "output_tokens": answers * USAGE["completion_tokens"],
        "total_tokens": answers * USAGE["total_tokens"],
    }


async def used(caller: Caller, query: str = "") -> dict[str, Any]:
    return await caller.ask(200, "GET", f"/usage{query}")


async def test_a_tenant_that_did_nothing_has_used_nothing(admin: Caller) -> None:
    report = await used(admin)
    assert (report["data"], report["total"], report["group_by"]) == ([], NOTHING, "model")
    assert {metric["name"]: (metric["used"], metric["limit"]) for metric in report["metrics"]} == {
        "agents": (0, -1),
        "schemas": (0, -1),
        "sessions": (0, -1),
    }


async def test_every_answer_of_a_turn_counts_for_its_model(world: World, admin: Caller) -> None:
    first = await world.assistant(
        admin, use("show_structured_output", BLOCK), say("ok"), tools=["show_structured_output"]
    )
    second = await world.assistant(admin, say("yes"))
    done = (await admin.chat(first.schema)).one("done")
    await admin.chat(second.schema)
    report = await used(admin)
    told = {group.pop("name"): group for group in report["data"]}
    assert told == {first.model: of(2), second.model: of(1)}
    assert report["total"] == of(3)
    assert told[first.model]["total_tokens"] == done["total_tokens"]
    assert {metric["name"]: metric["used"] for metric in report["metrics"]} == {
        "agents": 2,
        "schemas": 2,
        "sessions": 2,
    }


async def test_a_sub_agents_answers_count_for_itself_and_its_model(world: World, admin: Caller) -> None:
    child, _ = await sub_agent(world, admin, use("no_such", {}), say("849"))
    assistant = await world.assistant(admin, spawn(child), say("Yes."), can_spawn=[child])
    await admin.chat(assistant.schema)
    by_agent = (await used(admin, "?group_by=agent"))["data"]
    assert {group.pop("name"): group for group in by_agent} == {assistant.agent: of(2), child: of(2)}
    assert (await used(admin))["total"] == of(4)


async def test_a_failed_turn_counts_for_what_was_answered_in_it(world: World, admin: Caller) -> None:
    assistant = await world.assistant(
        admin, use("show_structured_output", BLOCK), Reply(status=400), tools=["show_structured_output"]
    )
    turn = await admin.chat(assistant.schema)
    assert "error" in turn.events
    assert (await used(admin))["total"] == of(1)


async def test_turns_that_end_at_once_are_all_counted(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, *[say("ok")] * 40)
    await asyncio.gather(*(admin.chat(assistant.schema) for _ in range(40)))
    report = await used(admin, "?group_by=day")
    assert [group["requests"] for group in report["data"]] == [40]
    assert report["total"] == of(40)


async def test_what_was_spent_outlives_its_session(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("ok"))
    turn = await admin.chat(assistant.schema)
    await admin.ask(204, "DELETE", f"/sessions/{turn.session_id}")
    assert (await used(admin))["total"] == of(1)


async def test_a_turn_whose_session_is_deleted_meanwhile_is_counted(world: World, admin: Caller) -> None:
    slow = Reply(text=("slow",), delay=0.5)
    assistant = await world.assistant(
        admin, use("show_structured_output", BLOCK), slow, tools=["show_structured_output"]
    )
    body = {"message": "hi", "session_id": str(uuid.uuid4())}
    async with admin.streaming(f"/schemas/{assistant.schema}/chat", body) as frames:
        async for frame in frames:
            if frame.event == "tool_result":
                await admin.ask(204, "DELETE", f"/sessions/{body['session_id']}")
    # The answer that was under way may have come to its end all the same.
    assert (await used(admin))["total"] in (of(1), of(2))


async def test_days_bound_what_is_told(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("ok"))
    await admin.chat(assistant.schema)
    today = datetime.now(UTC).date()
    [group] = (await used(admin, "?group_by=day"))["data"]
    assert group["name"] in (str(today), str(today - timedelta(days=1)))
    day = group["name"]
    assert (await used(admin, f"?from={day}&to={day}"))["total"] == of(1)
    assert (await used(admin, f"?from={day}T23:59:59Z"))["total"] == of(1)
    assert (await used(admin, "?from=2999-01-01"))["total"] == NOTHING
    assert (await used(admin, "?to=2020-01-01"))["data"] == []


@pytest.mark.parametrize(
    ("query", "field"), [("group_by=tenant", "group_by"), ("from=yesterday", "from"), ("to=x", "to")]
)
async def test_a_wrong_question_is_told(admin: Caller, query: str, field: str) -> None:
    refused = await admin.ask(400, "GET", f"/usage?{query}")
    assert field in str(refused)


async def test_usage_is_a_tenants_own_and_for_any_of_its_callers(
    world: World, admin: Caller, database: Database
) -> None:
    assistant = await world.assistant(admin, say("ok"))
    await admin.chat(assistant.schema)
    other_id = str(uuid.uuid4())
    async with database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) values ($1)", other_id)
    stranger = world.caller(other_id)
    assert (await used(stranger))["total"] == NOTHING
    talker = world.caller(admin.principal.tenant_id, "chat")
    assert (await used(talker))["total"] == of(1)


async def test_embedded_texts_count_for_their_model_and_no_agent(
    admin: Caller, embedder: FakeEmbedder
) -> None:
    model = await configure(admin, embedder)
    vectors(await embed(admin, *[f"text {n}" for n in range(100)]))
    # Two requests of at most 96 texts, and the fake tells one token for each.
    [group] = (await used(admin))["data"]
    assert group == of(0) | {"name": model["name"], "requests": 2, "input_tokens": 2, "total_tokens": 2}
    [group] = (await used(admin, "?group_by=agent"))["data"]
    assert (group["name"], group["requests"]) == ("", 2)
