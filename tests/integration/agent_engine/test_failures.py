"""What a turn does when something around it fails: it says so, it ends, and the session goes on."""

import asyncio
from typing import Any

import pytest
from tests.fakes.model_server import Call, Reply, say, use
from tests.integration.agent_engine.conftest import Caller, World
from tests.integration.agent_engine.test_order import check_order

from weir.agent_engine.models import asking
from weir.agent_engine.tables import messages
from weir.agent_engine.turn_asking import ANSWER_RETRIES


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FAULT_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(asking, "LIMIT_PAUSE_SECONDS", 0.01)


FAILURES = {
    "unauthorized": (Reply(status=401), "model_unauthorized"),
    "unknown model": (Reply(status=404), "model_not_found"),
    "refused": (Reply(status=400), "model_refused"),
    "rate limited for long": (Reply(status=429, headers={"retry-after": "120"}), "model_rate_limited"),
    "failing": (Reply(status=500), "model_unavailable"),
    "drops": (say("Hel", drops=True), "model_unavailable"),
    "ends early": (Reply(raw=b'data: {"choices":[{"delta":{"content":"Hel"}}]}\n\n'), "model_unavailable"),
    "garbage": (Reply(raw=b"data: {not json}\n\n"), "model_garbled"),
    "wrong types": (Reply(raw=b'data: {"choices": 5}\n\n'), "model_garbled"),
    "deep": (Reply(raw=b"data: " + b"[" * 100_000 + b"\n\n"), "model_garbled"),
    "bad text": (Reply(raw=b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n'), "model_garbled"),
    "error in the stream": (Reply(raw=b'data: {"error":{"message":"x"}}\n\n'), "model_unavailable"),
    "a page": (Reply(raw=b"<html>hello</html>"), "model_garbled"),
    "nothing": (Reply(raw=b"data: [DONE]\n\n"), "model_silent"),
    "empty": (say(), "model_silent"),
    "withheld": (say(finish="content_filter"), "model_refused"),
}

# How often the model gets the chance to do better, where it gets one.
ANSWERS = {"failing": asking.FAULT_TRIES} | dict.fromkeys(
    ("garbage", "wrong types", "deep", "bad text", "a page", "nothing", "empty"), 1 + ANSWER_RETRIES
)


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failing_model_ends_in_one_error_then_done_and_the_session_goes_on(
    world: World, admin: Caller, failure: str
) -> None:
    reply, code = FAILURES[failure]
    broken = [reply] * ANSWERS.get(failure, 1)
    assistant = await world.assistant(admin, *broken, say("Better."))
    turn = await admin.chat(assistant.schema)
    assert turn.events[-2:] == ["error", "done"]
    assert turn.one("error")["code"] == code
    assert turn.one("error")["message"] == turn.one("error")["content"]
    assert "sk-secret" not in str(turn.frames)
    again = await admin.chat(assistant.schema, "again", turn.session_id)
    assert again.one("message")["content"] == "Better."
    contents = [m["content"] for m in assistant.brain.requests[-1]["messages"]][1:]
    assert contents == ["hi", *([turn.text] if turn.text else []), "again"]


async def test_a_model_that_falls_silent_after_its_tools_is_an_error(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, use("x", {}), say())
    turn = await admin.chat(assistant.schema)
    assert turn.events == ["tool_call", "tool_result", "error", "done"]
    assert turn.one("error")["code"] == "model_silent"


@pytest.mark.parametrize("bad", [Reply(raw=b"data: {not json}\n\n"), say(), say("  \n")], ids=str)
async def test_a_model_is_told_of_an_answer_that_nobody_can_use_and_asked_again(
    world: World, admin: Caller, bad: Reply
) -> None:
    assistant = await world.assistant(admin, bad, bad, say("Better."))
    turn = await admin.chat(assistant.schema)
    assert turn.one("message")["content"].strip() == "Better."
    told = ["could not be used" in request["messages"][0]["content"] for request in assistant.brain.requests]
    assert told == [False, True, True]


async def test_what_was_heard_of_a_bad_answer_is_not_said_again(world: World, admin: Caller) -> None:
    heard = b'data: {"choices":[{"delta":{"content":"Hel"}}]}\n\ndata: {not json}\n\n'
    assistant = await world.assistant(admin, Reply(raw=heard), say("Hello"))
    turn = await admin.chat(assistant.schema)
    assert (turn.text, turn.one("error")["code"]) == ("Hel", "model_garbled")
    assert len(assistant.brain.requests) == 1


async def test_a_turn_whose_time_is_up_within_its_tools_still_ends_with_an_answer(
    world: World, admin: Caller
) -> None:
    slow = await world.assistant(admin, say("never", delay=30))
    look, hand_on = Call("x", {"n": 1}), Call(f"spawn_{slow.agent}", {"description": "Look."})
    assistant = await world.assistant(
        admin,
        Reply(text=("I look. ",), calls=(look, hand_on)),
        say("That is all that I know."),
        max_turn_duration=1,
        can_spawn=[slow.agent],
    )
    turn = await admin.chat(assistant.schema)
    check_order(turn)
    assert turn.one("message")["content"] == "I look. That is all that I know."
    assert "tools" not in assistant.brain.requests[1]
    assert "time is up" in assistant.brain.requests[1]["messages"][0]["content"]
    results = [m["content"] for m in assistant.brain.requests[1]["messages"] if m["role"] == "tool"]
    assert "There is no tool 'x'" in results[0]
    assert "time was up" in results[1]
    session = await admin.ask(200, "GET", f"/sessions/{turn.session_id}")
    assert session["status"] == "completed"
    assert [event["event_type"] for event in session["events"]].count("tool_result") == 2


async def test_a_model_that_hangs_after_its_tools_gets_one_more_chance_and_no_third(
    world: World, admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weir.agent_engine.turn_loop.LAST_WORDS_SECONDS", 0.3)
    assistant = await world.assistant(admin, use("x"), say("Well", hangs=True), max_turn_duration=1)
    turn = await admin.chat(assistant.schema)
    assert turn.one("error")["code"] == "timeout"
    assert len(assistant.brain.requests) == 3


async def test_what_was_being_written_when_the_time_was_up_is_kept_once(
    world: World, admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = messages.add

    async def slowly(*arguments: Any) -> None:
        await asyncio.sleep(1.3)
        await add(*arguments)

    monkeypatch.setattr(messages, "add", slowly)
    assistant = await world.assistant(
        admin, use("x", after=("I look. ",)), say("Enough."), max_turn_duration=1
    )
    turn = await admin.chat(assistant.schema)
    assert turn.one("message")["content"] == "I look. Enough."
    session = await admin.ask(200, "GET", f"/sessions/{turn.session_id}")
    kinds = [event["event_type"] for event in session["events"]]
    assert kinds == ["user_message", "assistant_message", "tool_call", "tool_result", "assistant_message"]


async def test_a_sub_agent_whose_time_is_up_within_its_tools_answers_too(world: World, admin: Caller) -> None:
    slow = await world.assistant(admin, say("never", delay=30))
    hand_on = use(f"spawn_{slow.agent}", {"description": "Look."})
    middle = await world.assistant(
        admin, hand_on, say("Nobody answered."), can_spawn=[slow.agent], max_turn_duration=1
    )
    assistant = await world.assistant(
        admin, use(f"spawn_{middle.agent}", {"description": "Ask."}), say("ok"), can_spawn=[middle.agent]
    )
    turn = await admin.chat(assistant.schema)
    assert "Nobody answered." in turn.one("tool_result")["output"]
    assert turn.text == "ok"


async def test_a_passing_fault_is_tried_again_before_anything_was_said(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, Reply(status=429), Reply(status=503), say("ok"))
    turn = await admin.chat(assistant.schema)
    assert turn.events == ["message_delta", "message", "done"]
    assert len(assistant.brain.requests) == 3


async def test_a_model_that_nobody_serves_is_unavailable(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin)
    await admin.ask(200, "PUT", f"/models/{assistant.model}", {"base_url": "http://127.0.0.1:9/v1"})
    turn = await admin.chat(assistant.schema)
    assert turn.one("error")["code"] == "model_unavailable"


async def test_a_turn_past_its_duration_ends_and_hangs_up_on_the_model(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("Well", hangs=True), say("ok"), max_turn_duration=1)
    turn = await admin.chat(assistant.schema)
    assert turn.one("error")["code"] == "timeout"
    await asyncio.wait_for(assistant.brain.cut_off.wait(), 2)
    session = await admin.ask(200, "GET", f"/sessions/{turn.session_id}")
    assert [m["content"] for m in session["messages"]] == ["hi", "Well"]
    assert session["status"] == "failed"
    assert (await admin.chat(assistant.schema, "again", turn.session_id)).text == "ok"


async def test_an_address_that_became_forbidden_is_not_asked(
    start_world, tenant_id: str, world: World
) -> None:
    assistant = await world.assistant(world.caller(tenant_id), say("hi"))
    async with start_world() as other:
        other.app.state.studio.models._allow_private = False
        turn = await other.caller(tenant_id).chat(assistant.schema)
    assert turn.one("error")["code"] == "model_refused"
    assert not assistant.brain.requests


async def test_a_turn_whose_process_died_frees_its_session(
    world: World, start_world, admin: Caller, database
) -> None:
    assistant = await world.assistant(admin, say("hi"))
    session_id = (await admin.chat(assistant.schema)).session_id
    async with database.any_tenant() as connection:
        await connection.execute(
            """
            update turns set status = 'running', deadline_at = now() - interval '1 hour'
            where session_id = $1
            """,
            session_id,
        )
        await connection.execute("update sessions set status = 'active' where id = $1", session_id)
    async with start_world():
        session = await admin.ask(200, "GET", f"/sessions/{session_id}")
    assert session["status"] == "failed"
    assert (await admin.chat(assistant.schema, "again", session_id)).text == "hi"


async def test_turns_still_running_when_the_service_stops_are_written_as_failed(
    start_world, tenant_id: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weir.agent_engine.opening.LAST_SECONDS", 0.1)
    async with start_world() as other:
        caller = other.caller(tenant_id)
        assistant = await other.assistant(caller, say("Well", hangs=True))
        body = {"message": "hi"}
        async with caller.streaming(f"/schemas/{assistant.schema}/chat", body) as frames:
            async for frame in frames:
                if frame.event == "message_delta":
                    break
        await caller.http.aclose()
    sessions = await world.caller(tenant_id).ask(200, "GET", "/sessions")
    assert [session["status"] for session in sessions["sessions"]] == ["failed"]
