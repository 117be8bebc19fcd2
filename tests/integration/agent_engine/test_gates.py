"""The gate before a tool: who may open it, once and in time, through any replica, and what becomes of the turn."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.fakes.model_server import Call, Reply, say, use
from tests.integration.agent_engine.conftest import Caller, Frame, World
from tests.integration.agent_engine.gates import GATED, TABLE, answer, live
from tests.serving import free_port

from weir_shared.auth.keys import TICKET_KEY, load_or_create_key_pair
from weir_shared.auth.tickets import TicketOffice
from weir_shared.db.pool import Database

SHOW = use("show_structured_output", TABLE)


@pytest.fixture(scope="session")
async def replicas(
    start_world: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[World, World]]:
    """Two studios on one database, with one set of keys."""
    folder = tmp_path_factory.mktemp("replicas")
    async with start_world(folder) as one, start_world(folder) as other:
        yield one, other


async def test_a_gate_stands_between_the_call_and_its_result(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, SHOW, say("Done."), **GATED)
    async with live(admin, assistant.schema) as turn:
        [asked] = await turn.asked()
        assert [frame.event for frame in turn.frames if frame.event] == ["tool_call", "confirmation"]
        assert asked["tool"] == "show_structured_output"
        assert asked["input"]["title"] == "Laptops"
        assert asked["arguments"] == TABLE
        assert asked["session_id"] == turn.session_id
        assert asked["tool"] in asked["content"]
        assert '"title":"Laptops"' in asked["content"]
        reply = await answer(admin, 200, turn.session_id, asked["call_id"], "approve")
        ended = await turn.end()
    assert reply == {"status": "ok"}
    assert ended.events == [
        *("tool_call", "confirmation", "structured_output", "tool_result"),
        *("message_delta", "message", "done"),
    ]
    called, result = ended.one("tool_call"), ended.one("tool_result")
    assert called["call_id"] == asked["call_id"] == result["call_id"]


@pytest.mark.parametrize(
    "answers",
    [(), ("reject",), ("no",), ('["approve"]',), ("sure",), ("",), ("approve", "reject"), ("yes!",)],
)
async def test_anything_but_approval_declines_and_the_turn_goes_on(
    world: World, admin: Caller, answers: tuple[str, ...]
) -> None:
    assistant = await world.assistant(admin, SHOW, say("As you like."), **GATED)
    async with live(admin, assistant.schema) as turn:
        [asked] = await turn.asked()
        await answer(admin, 200, turn.session_id, asked["call_id"], *answers)
        ended = await turn.end()
    result = ended.one("tool_result")
    assert "declined" in result["output"]
    assert result["has_error"] is False
    assert "structured_output" not in ended.events
    assert ended.one("message")["content"] == "As you like."
    told = assistant.brain.requests[1]["messages"][-1]
    assert told["role"] == "tool"
    assert "declined" in told["content"]


async def test_words_of_approval_approve_in_any_case_and_with_space(world: World, admin: Caller) -> None:
    for word in ("approve", "Approved", " YES ", "y", "ok", "true", "confirm", "allow\n"):
        assistant = await world.assistant(admin, SHOW, say("Done."), **GATED)
        async with live(admin, assistant.schema) as turn:
            [asked] = await turn.asked()
            await answer(admin, 200, turn.session_id, asked["call_id"], word)
            assert "structured_output" in (await turn.end()).events, word


async def test_calls_in_parallel_have_a_gate_each(world: World, admin: Caller) -> None:
    both = Reply(calls=(Call("show_structured_output", TABLE), Call("show_structured_output", TABLE)))
    assistant = await world.assistant(admin, both, say("Done."), tool_execution="parallel", **GATED)
    async with live(admin, assistant.schema) as turn:
        one, other = await turn.asked(2)
        assert one["call_id"] != other["call_id"]
        await answer(admin, 200, turn.session_id, other["call_id"], "no")
        await answer(admin, 200, turn.session_id, one["call_id"], "yes")
        ended = await turn.end()
    outputs = {frame.data["call_id"]: frame.data["output"] for frame in ended.of("tool_result")}
    assert "declined" in outputs[other["call_id"]]
    assert "displayed" in outputs[one["call_id"]]


async def test_an_answer_counts_once(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, SHOW, say("Done.", pause=0.3), **GATED)
    async with live(admin, assistant.schema) as turn:
        [asked] = await turn.asked()
        replies = await asyncio.gather(
            *(_respond(admin, turn.session_id, asked["call_id"]) for _ in range(8))
        )
        assert sorted(reply.status_code for reply in replies) == [200] + [409] * 7
        refusal = await answer(admin, 409, turn.session_id, asked["call_id"], "no")
        assert refusal["error"] == "conflict"
        await turn.end()
    await answer(admin, 409, turn.session_id, asked["call_id"], "approve")


async def test_the_answer_of_one_turn_opens_no_gate_of_another(world: World, admin: Caller) -> None:
    # The model gives its calls the same id in every turn.
    assistant = await world.assistant(admin, SHOW, say("One."), SHOW, say("Two."), **GATED)
    async with live(admin, assistant.schema) as turn:
        [first] = await turn.asked()
        await answer(admin, 200, turn.session_id, first["call_id"], "yes")
        await turn.end()
    async with live(admin, assistant.schema, turn.session_id) as again:
        [second] = await again.asked()
        assert second["call_id"] != first["call_id"]
        await answer(admin, 409, turn.session_id, first["call_id"], "yes")
        await answer(admin, 404, turn.session_id, "call-0-show_structured_output", "yes")
        await answer(admin, 200, turn.session_id, second["call_id"], "no")
        assert "declined" in (await again.end()).one("tool_result")["output"]


async def test_who_may_not_see_the_session_may_not_answer(
    world: World, admin: Caller, database: Database, tenant_id: str
) -> None:
    assistant = await world.assistant(admin, SHOW, say("Done."), **GATED)
    owner = world.caller(tenant_id, "chat", subject="owner")
    other = world.caller(tenant_id, "chat", subject="other")
    foreign_tenant = str(uuid.uuid4())
    async with database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) values ($1)", foreign_tenant)
    foreign = world.caller(foreign_tenant)
    others = (await owner.chat((await world.assistant(admin, say("hi"))).schema)).session_id
    async with live(owner, assistant.schema) as turn:
        [asked] = await turn.asked()
        for caller in (other, foreign):
            await answer(caller, 404, turn.session_id, asked["call_id"], "approve")
        for session_id in (others, str(uuid.uuid4()), "x"):
            await answer(owner, 404, session_id, asked["call_id"], "approve")
        assert "tool_result" not in [frame.event for frame in turn.frames]
        # An administrator of the tenant may, and so may the owner.
        await answer(admin, 200, turn.session_id, asked["call_id"], "approve")
        assert "structured_output" in (await turn.end()).events


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"call_id": "x"},
        {"answers": ["yes"]},
        {"call_id": "", "answers": []},
        {"call_id": 5, "answers": []},
        {"call_id": "x", "answers": "approve"},
        {"call_id": "x", "answers": [True]},
        {"call_id": "x", "answers": ["a"] * 21},
        {"call_id": "a\0b", "answers": ["yes"]},
        [],
    ],
)
async def test_a_body_that_is_no_answer_is_refused(world: World, admin: Caller, body: Any) -> None:
    session_id = (await admin.chat((await world.assistant(admin, say("hi"))).schema)).session_id
    await admin.ask(400, "POST", f"/sessions/{session_id}/respond", body)


async def test_a_gate_that_nobody_answers_declines_and_a_late_answer_finds_nothing(
    start_world: Callable[..., Any], tenant_id: str
) -> None:
    async with start_world(confirm_timeout_seconds=1) as hasty:
        admin = hasty.caller(tenant_id)
        assistant = await hasty.assistant(admin, SHOW, say("Never mind."), **GATED)
        async with live(admin, assistant.schema) as turn:
            [asked] = await turn.asked()
            ended = await turn.end()
        assert "declined" in ended.one("tool_result")["output"]
        assert ended.one("message")["content"] == "Never mind."
        await answer(admin, 404, turn.session_id, asked["call_id"], "approve")


async def test_waiting_for_a_person_is_not_the_turns_time(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, SHOW, say("Done."), max_turn_duration=1, **GATED)
    async with live(admin, assistant.schema) as turn:
        [asked] = await turn.asked()
        await asyncio.sleep(1.5)
        await answer(admin, 200, turn.session_id, asked["call_id"], "yes")
        assert (await turn.end()).one("message")["content"] == "Done."


async def test_the_turns_time_goes_on_after_the_answer(world: World, admin: Caller) -> None:
    slow = say("x", hangs=True)
    assistant = await world.assistant(admin, SHOW, slow, say("Enough."), max_turn_duration=1, **GATED)
    async with live(admin, assistant.schema) as turn:
        [asked] = await turn.asked()
        await answer(admin, 200, turn.session_id, asked["call_id"], "yes")
        assert (await turn.end()).one("message")["content"] == "x\n\nEnough."
    assert "time is up" in assistant.brain.requests[2]["messages"][0]["content"]


async def test_a_session_that_waits_for_an_answer_says_so_to_the_next_message(
    world: World, admin: Caller
) -> None:
    assistant = await world.assistant(admin, SHOW, say("Done."), **GATED)
    async with live(admin, assistant.schema) as turn:
        [asked] = await turn.asked()
        body = {"message": "again", "session_id": turn.session_id}
        refusal = await admin.ask(409, "POST", f"/schemas/{assistant.schema}/chat", body)
        assert "answer to its confirmation" in refusal["message"]
        await answer(admin, 200, turn.session_id, asked["call_id"], "yes")
        await turn.end()


async def test_deleting_the_session_ends_the_wait(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, SHOW, say("Done."), **GATED)
    async with live(admin, assistant.schema) as turn:
        [asked] = await turn.asked()
        await admin.ask(204, "DELETE", f"/sessions/{turn.session_id}")
        ended = await turn.end()
    assert ended.one("error")["code"] == "stopped"
    assert ended.events[-1] == "done"
    await answer(admin, 404, turn.session_id, asked["call_id"], "approve")


async def test_the_model_is_told_which_tools_are_gated(world: World, admin: Caller) -> None:
    gated = await world.assistant(admin, say("hi"), **GATED)
    await admin.chat(gated.schema)
    system = gated.brain.requests[0]["messages"][0]["content"]
    assert "asked for approval: show_structured_output" in system
    free = await world.assistant(admin, say("hi"), tools=GATED["tools"])
    await admin.chat(free.schema)
    assert "approval" not in free.brain.requests[0]["messages"][0]["content"]


async def test_an_answer_through_another_replica_reaches_the_turn_at_once(
    replicas: tuple[World, World], tenant_id: str
) -> None:
    one, other = replicas
    here, there = one.caller(tenant_id), other.caller(tenant_id)
    assistant = await one.assistant(here, SHOW, say("Done."), **GATED)
    async with live(here, assistant.schema) as turn:
        [asked] = await turn.asked()
        await asyncio.sleep(0.2)
        started = time.monotonic()
        await answer(there, 200, turn.session_id, asked["call_id"], "approve")
        ended = await turn.end()
        # Sooner than the wait looks by itself.
        assert time.monotonic() - started < 1.5
        await answer(there, 409, turn.session_id, asked["call_id"], "approve")
    assert "structured_output" in ended.events


async def test_an_answer_whose_notice_is_lost_is_found_by_looking(
    replicas: tuple[World, World], tenant_id: str, database: Database
) -> None:
    here = replicas[0].caller(tenant_id)
    assistant = await replicas[0].assistant(here, SHOW, say("Done."), **GATED)
    async with live(here, assistant.schema) as turn:
        [asked] = await turn.asked()
        async with database.tenant(tenant_id) as connection:
            await connection.execute(
                "update confirmations set status = 'approved' where tenant_id = $1 and call_id = $2",
                tenant_id,
                asked["call_id"],
            )
        assert "structured_output" in (await turn.end()).events


async def test_deleting_the_session_through_another_replica_ends_the_wait(
    replicas: tuple[World, World], tenant_id: str
) -> None:
    here, there = (world.caller(tenant_id) for world in replicas)
    assistant = await replicas[0].assistant(here, SHOW, say("Done."), **GATED)
    async with live(here, assistant.schema) as turn:
        await turn.asked()
        await there.ask(204, "DELETE", f"/sessions/{turn.session_id}")
        ended = await turn.end()
    assert ended.one("error")["code"] == "stopped"
    assert "structured_output" not in ended.events
    assert len(assistant.brain.requests) == 1


async def test_a_waiting_turn_that_was_given_up_runs_nothing_afterwards(
    world: World, admin: Caller, database: Database, tenant_id: str
) -> None:
    assistant = await world.assistant(admin, SHOW, say("Done."), **GATED)
    async with live(admin, assistant.schema) as turn:
        [asked] = await turn.asked()
        async with database.tenant(tenant_id) as connection:
            await connection.execute(
                "update turns set status = 'failed' where tenant_id = $1 and session_id = $2",
                tenant_id,
                turn.session_id,
            )
        await answer(admin, 404, turn.session_id, asked["call_id"], "approve")
        ended = await turn.end()
    assert ended.one("error")["code"] == "stopped"
    assert "structured_output" not in ended.events


async def test_a_replica_killed_while_it_waits_leaves_a_closed_gate_and_a_usable_session(
    start_world: Callable[..., Any],
    dsn: str,
    redis_url: str,
    tmp_path: Path,
    tenant_id: str,
    database: Database,
) -> None:
    port = free_port()
    settings = {
        "WEIR_DATABASE_URL": dsn,
        "WEIR_REDIS_URL": redis_url,
        "WEIR_DATA_DIR": str(tmp_path),
        "WEIR_ENGINE_URL": f"http://127.0.0.1:{port}",
        "WEIR_ALLOW_PRIVATE_ADDRESSES": "1",
    }
    async with start_world(tmp_path) as survivor:
        there = survivor.caller(tenant_id)
        assistant = await survivor.assistant(there, SHOW, say("Here again."), **GATED)
        office = TicketOffice(load_or_create_key_pair(tmp_path / "keys", TICKET_KEY))
        here = Caller(f"http://127.0.0.1:{port}", office, there.principal)
        command = [sys.executable, "-m", "weir", "agent-engine"]
        with subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.DEVNULL) as doomed:
            try:
                await _listening(here)
                async with live(here, assistant.schema) as turn:
                    [asked] = await turn.asked()
                    doomed.send_signal(signal.SIGKILL)
                    with pytest.raises((httpx.HTTPError, AssertionError)):
                        await turn.end()
            finally:
                doomed.kill()
        await _move_the_clock(database, tenant_id)
        # Nobody would act on it.
        await answer(there, 404, turn.session_id, asked["call_id"], "approve")
        again = await there.chat(assistant.schema, "and now?", turn.session_id)
        assert again.text == "Here again."
        session = await there.ask(200, "GET", f"/sessions/{turn.session_id}")
        assert "tool_result" not in [event["event_type"] for event in session["events"]]


async def _respond(caller: Caller, session_id: str, call_id: str) -> httpx.Response:
    body = {"call_id": call_id, "answers": ["approve"]}
    return await caller.call("POST", f"/sessions/{session_id}/respond", body)


async def _listening(caller: Caller) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await caller.call("GET", "/sessions")
                return
            except httpx.TransportError:
                await asyncio.sleep(0.1)


async def _move_the_clock(database: Database, tenant_id: str) -> None:
    """An hour, for everything that waits for it."""
    async with database.tenant(tenant_id) as connection:
        await connection.execute(
            "update turns set deadline_at = deadline_at - interval '1 hour' where tenant_id = $1", tenant_id
        )
        await connection.execute(
            "update confirmations set looked_at = looked_at - interval '1 hour' where tenant_id = $1",
            tenant_id,
        )


async def test_an_agent_that_waits_for_a_person_needs_input_and_so_does_not_the_agent_above_it(
    world: World, admin: Caller
) -> None:
    below = await world.assistant(admin, use("show_structured_output", TABLE), say("Shown."), **GATED)
    above = await world.assistant(
        admin, use(f"spawn_{below.agent}", {"description": "Show."}), say("ok"), can_spawn=[below.agent]
    )

    async def states(session_id: str) -> list[str]:
        paths = [f"/agents/{name}/lifecycle?session_id={session_id}" for name in (above.agent, below.agent)]
        return [(await admin.ask(200, "GET", path))["state"] for path in paths]

    async with live(admin, above.schema) as turn:
        [asked] = await turn.asked()
        assert await states(turn.session_id) == ["blocked", "needs_input"]
        await answer(admin, 200, turn.session_id, asked["call_id"], "yes")
        await turn.end()
        assert await states(turn.session_id) == ["ready", "ready"]


async def test_a_reader_on_another_replica_sees_what_is_asked_while_it_waits_and_afterwards(
    replicas: tuple[World, World], tenant_id: str
) -> None:
    here, there = (world.caller(tenant_id) for world in replicas)
    assistant = await replicas[0].assistant(here, SHOW, say("Shown."), **GATED)
    async with live(here, assistant.schema) as turn:
        [asked] = await turn.asked()
        path = f"/sessions/{turn.session_id}/events"
        async with there.streaming(path, method="GET") as frames:
            told = [await anext(frames) for _ in range(3)]
        assert [frame.event for frame in told[1:]] == ["tool_call", "confirmation"]
        assert told[2].data == asked
        await answer(there, 200, turn.session_id, asked["call_id"], "yes")
        whole = await turn.end()
    await replicas[0].app.state.studio.running.stop((tenant_id, turn.session_id))
    assert await events_of(there, turn.session_id) == whole.frames


async def test_what_a_sub_agent_asked_and_showed_is_told_again_from_the_ledger(
    world: World, admin: Caller
) -> None:
    below = await world.assistant(admin, SHOW, say("Shown."), **GATED)
    hand_on = use(f"spawn_{below.agent}", {"description": "Show."})
    above = await world.assistant(admin, hand_on, say("ok"), can_spawn=[below.agent])
    async with live(admin, above.schema) as turn:
        [asked] = await turn.asked()
        await answer(admin, 200, turn.session_id, asked["call_id"], "yes")
        whole = await turn.end()
    assert whole.events[:4] == ["tool_call", "confirmation", "structured_output", "tool_result"]
    await world.app.state.studio.running.stop((admin.principal.tenant_id, turn.session_id))
    assert await events_of(admin, turn.session_id) == whole.frames


async def events_of(caller: Caller, session_id: str) -> list[Frame]:
    async with caller.streaming(f"/sessions/{session_id}/events", method="GET") as frames:
        return [frame async for frame in frames]
