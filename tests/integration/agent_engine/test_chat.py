"""A chat turn as its client sees it: which events, in which order, with what in them."""

import asyncio
import json
import re
import uuid
from typing import Any

import pytest
from tests.fakes.model_server import Call, Reply, say, use
from tests.integration.agent_engine.conftest import Caller, Streamed, World

from weir.agent_engine.turn import Turn
from weir_shared.db.pool import Database


def collapsed(turn: Streamed) -> str:
    """The event names, with runs of one name written once."""
    return re.sub(r"\b(\w+)(?: \1\b)+", r"\1", " ".join(turn.events))


async def test_a_stream_opens_with_a_comment_and_names_its_session(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("hi"))
    path = f"/api/v1/schemas/{assistant.schema}/chat"
    async with admin.http.stream("POST", path, json={"message": "hi"}) as response:
        content = (await response.aread()).decode()
    assert content.startswith(": ok\n\n")
    assert response.headers["x-session-id"] in content.rpartition("event: done")[2]
    assert response.headers["cache-control"] == "no-cache"
    assert "content-length" not in response.headers


async def test_a_plain_answer_is_deltas_then_the_message_then_done(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("Hel", "lo ", "there"))
    turn = await admin.chat(assistant.schema)
    assert turn.frames[0].comment == ": ok"
    assert turn.events == ["message_delta"] * 3 + ["message", "done"]
    assert turn.one("message") == {"content": "Hello there"}
    assert turn.one("done") == {
        "session_id": turn.session_id,
        "tokens": 12,
        "total_tokens": 12,
        "context_tokens": 7,
    }


async def test_the_message_joins_the_deltas_of_the_turn_across_a_tool_call(
    world: World, admin: Caller
) -> None:
    asking = use("no_such_tool", {"limit": 5, "deep": {"a": [1]}}, after=("I look. ",))
    assistant = await world.assistant(admin, asking, say("Nothing."), tools=["lake_tables"])
    turn = await admin.chat(assistant.schema)
    assert collapsed(turn) == "message_delta tool_call tool_result message_delta message done"
    assert turn.one("message")["content"] == turn.text == "I look. Nothing."
    call, result = turn.one("tool_call"), turn.one("tool_result")
    assert call["input"] == {"limit": "5", "deep": '{"a":[1]}'}
    assert call["arguments"] == {"limit": 5, "deep": {"a": [1]}}
    assert call["call_id"] == result["call_id"]
    assert result["has_error"] is True
    assert result["output"] == "[ERROR] There is no tool 'no_such_tool'. The tools are: lake_tables"


async def test_every_result_follows_its_call_when_calls_come_in_parallel(world: World, admin: Caller) -> None:
    both = Reply(calls=(Call("one", {"a": 1}), Call("two", written="{not json")))
    assistant = await world.assistant(admin, both, say("ok"), tool_execution="parallel")
    turn = await admin.chat(assistant.schema)
    called = [frame.data["call_id"] for frame in turn.of("tool_call")]
    assert sorted(called) == ["call-0-one", "call-1-two"]
    for result in turn.of("tool_result"):
        before = turn.frames[: turn.frames.index(result)]
        assert result.data["call_id"] in [f.data["call_id"] for f in before if f.event == "tool_call"]


async def test_arguments_that_are_no_json_are_told_to_the_model_as_an_error(
    world: World, admin: Caller
) -> None:
    broken = Reply(calls=(Call("lake_query", written='{"query": '),))
    assistant = await world.assistant(admin, broken, say("ok"), tools=["lake_query"])
    turn = await admin.chat(assistant.schema)
    assert turn.one("tool_result")["output"].startswith("[ERROR] The arguments of lake_query are no JSON")
    [asked] = [m for m in assistant.brain.requests[1]["messages"] if m["role"] == "assistant"]
    assert asked["tool_calls"][0]["function"]["arguments"] == "{}"
    assert turn.text == "ok"


async def test_a_configured_tool_that_is_not_there_is_left_out_and_the_model_knows(
    world: World, admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "weir.agent_engine.tools.names.KNOWN", frozenset({"lake_query", "of_another_version"})
    )
    assistant = await world.assistant(admin, say("ok"), tools=["of_another_version", "lake_query"])
    assert (await admin.chat(assistant.schema)).text == "ok"
    [request] = assistant.brain.requests
    assert [tool["function"]["name"] for tool in request["tools"]] == ["lake_query"]
    assert "not available at present: of_another_version." in request["messages"][0]["content"]


async def test_arguments_in_another_grammar_are_read_and_stand_in_the_conversation_as_json(
    world: World, admin: Caller
) -> None:
    written = "<args>{output_type: 'info', title: 'Hi',}</args>"
    odd = Reply(calls=(Call("show_structured_output", written=written),))
    assistant = await world.assistant(admin, odd, say("ok"), tools=["show_structured_output"])
    turn = await admin.chat(assistant.schema)
    assert turn.one("structured_output")["title"] == "Hi"
    assert turn.one("tool_call")["arguments"] == {"output_type": "info", "title": "Hi"}
    [asked] = [m for m in assistant.brain.requests[1]["messages"] if m["role"] == "assistant"]
    assert json.loads(asked["tool_calls"][0]["function"]["arguments"])["title"] == "Hi"


async def test_the_last_call_of_an_answer_that_was_cut_off_is_not_run(world: World, admin: Caller) -> None:
    block = {"output_type": "info", "title": "Hi"}
    calls = (Call("show_structured_output", block), Call("show_structured_output", block, id="b"))
    for execution in ("sequential", "parallel"):
        assistant = await world.assistant(
            admin,
            Reply(calls=calls, finish="length"),
            say("ok"),
            tools=["show_structured_output"],
            tool_execution=execution,
        )
        turn = await admin.chat(assistant.schema)
        results = {frame.data["call_id"]: frame.data for frame in turn.of("tool_result")}
        assert len(turn.of("structured_output")) == 1
        assert results["b"]["output"].startswith("[ERROR] Your answer was cut off")
        assert [result["has_error"] for result in results.values()].count(True) == 1
        assert turn.text == "ok"


async def test_reasoning_arrives_as_thinking_and_not_in_the_message(world: World, admin: Caller) -> None:
    for reply in (
        say("42", thinking=("Let me ", "see.")),
        say("42", thinking=("Let me see.",), reasoning_key="reasoning"),
        say("<thi", "nk>Let me ", "see.</th", "ink>\n\n42"),
    ):
        assistant = await world.assistant(admin, reply)
        turn = await admin.chat(assistant.schema)
        assert "".join(frame.data["content"] for frame in turn.of("thinking")) == "Let me see."
        assert turn.text == turn.one("message")["content"] == "42"


async def test_a_session_goes_on_with_what_was_said_and_done(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, use("x", {"q": 1}, after=("Hm.",)), say("Noted."), say("Teal."))
    first = await admin.chat(assistant.schema, "My colour is teal.")
    second = await admin.chat(assistant.schema, "Which?", first.session_id)
    assert second.session_id == first.session_id
    roles = [message["role"] for message in assistant.brain.requests[-1]["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
    called = assistant.brain.requests[-1]["messages"][2]
    assert called["content"] == "Hm."
    assert called["tool_calls"][0]["function"] == {"name": "x", "arguments": '{"q": 1}'}


async def test_an_unknown_session_id_begins_a_session_of_that_id(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("hi"))
    chosen = str(uuid.uuid4())
    assert (await admin.chat(assistant.schema, "hi", chosen)).session_id == chosen


async def test_the_session_of_somebody_else_is_not_found(world: World, tenant_id: str, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("hi"))
    session_id = (await admin.chat(assistant.schema)).session_id
    other = world.caller(tenant_id, "chat", subject="other")
    body = {"message": "hi", "session_id": session_id}
    refusal = await other.ask(404, "POST", f"/schemas/{assistant.schema}/chat", body)
    assert refusal["error"] == "not_found"
    await other.ask(404, "GET", f"/sessions/{session_id}")
    await other.ask(404, "DELETE", f"/sessions/{session_id}")
    await other.ask(404, "GET", f"/sessions/{session_id}/events")


async def test_a_whole_answer_is_one_object(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, use("x", {"n": 1}), say("Hel", "lo"))
    body = {"message": "hi", "stream": False}
    response = await admin.call("POST", f"/schemas/{assistant.schema}/chat", body)
    answer = response.json()
    assert response.headers["x-session-id"] == answer["session_id"]
    assert answer["message"] == "Hello"
    assert answer["tool_calls"][0]["tool"] == "x"
    assert answer["tool_calls"][0]["input"] == {"n": "1"}
    assert "error" not in answer


async def test_a_whole_answer_that_failed_says_why(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, Reply(status=401))
    answer = await admin.ask(
        200, "POST", f"/schemas/{assistant.schema}/chat", {"message": "hi", "stream": False}
    )
    assert answer["error"]["code"] == "model_unauthorized"
    assert answer["message"] == answer["error"]["message"]


async def test_what_cannot_be_chatted_with_is_refused_before_the_stream(world: World, admin: Caller) -> None:
    closed = await world.assistant(admin, schema={"chat_enabled": False})
    empty = await world.assistant(admin, schema={"entry_agent_id": None})
    open_one = await world.assistant(admin)
    hello = {"message": "hi"}
    for status, code, schema, body in [
        (404, "not_found", "no-such-schema", hello),
        (404, "not_found", "No%00Name", hello),
        (403, "chat_disabled", closed.schema, hello),
        (400, "invalid_request", empty.schema, hello),
        (400, "invalid_request", open_one.schema, {}),
        (400, "invalid_request", open_one.schema, {"message": "  "}),
        (400, "invalid_request", open_one.schema, {"message": 5}),
        (400, "invalid_request", open_one.schema, {"message": "hi", "session_id": "mine"}),
    ]:
        refusal = await admin.ask(status, "POST", f"/schemas/{schema}/chat", body)
        assert refusal["error"] == code, (schema, body, refusal)


async def test_a_client_that_goes_away_does_not_stop_the_turn(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say(*"abcdefgh", pause=0.05))
    session_id = str(uuid.uuid4())
    body = {"message": "hi", "session_id": session_id}
    async with admin.streaming(f"/schemas/{assistant.schema}/chat", body) as frames:
        async for frame in frames:
            if frame.event == "message_delta":
                break
    for _ in range(100):
        session = await admin.ask(200, "GET", f"/sessions/{session_id}")
        if session["status"] != "active":
            break
        await asyncio.sleep(0.05)
    assert [message["content"] for message in session["messages"]] == ["hi", "abcdefgh"]


async def test_a_client_that_comes_back_gets_the_events_it_missed(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say(*"abcdefgh", pause=0.05))
    session_id, seen = str(uuid.uuid4()), list[str]()
    body = {"message": "hi", "session_id": session_id}
    async with admin.streaming(f"/schemas/{assistant.schema}/chat", body) as frames:
        async for frame in frames:
            if frame.event:
                seen.append(frame.id)
            if len(seen) == 3:
                break
    async with admin.streaming(
        f"/sessions/{session_id}/events", method="GET", headers={"Last-Event-ID": seen[-1]}
    ) as frames:
        rest = Streamed([frame async for frame in frames])
    assert seen + [frame.id for frame in rest.frames if frame.id] == [f"1-{n}" for n in range(1, 11)]
    assert rest.text == "defgh"
    assert rest.events[-2:] == ["message", "done"]


async def test_a_turn_that_no_memory_holds_is_told_from_the_ledger(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, use("x", {"n": 1}, after=("Hm. ",)), say("Hel", "lo"))
    live = await admin.chat(assistant.schema)
    await world.app.state.studio.running.stop((admin.principal.tenant_id, live.session_id))
    async with admin.streaming(f"/sessions/{live.session_id}/events", method="GET") as frames:
        replayed = Streamed([frame async for frame in frames])
    assert replayed.events == [
        "message_delta",
        "tool_call",
        "tool_result",
        "message_delta",
        "message",
        "done",
    ]
    assert replayed.text == live.text
    for event in ("tool_call", "tool_result", "message", "done"):
        assert replayed.of(event) == live.of(event)


async def test_a_second_message_while_the_turn_runs_is_a_conflict(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("a", "b", pause=0.2), say("later"))
    session_id = str(uuid.uuid4())
    first = asyncio.create_task(admin.chat(assistant.schema, "one", session_id))
    await asyncio.sleep(0.1)
    body = {"message": "two", "session_id": session_id}
    refusal = await admin.ask(409, "POST", f"/schemas/{assistant.schema}/chat", body)
    assert refusal["error"] == "conflict"
    assert "busy" in refusal["message"]
    assert "after `done`" in refusal["message"]
    assert refusal["retry_after"] == 2
    assert (await first).text == "ab"
    assert (await admin.chat(assistant.schema, "two", session_id)).text == "later"


async def test_deleting_a_session_ends_its_turn_and_its_model_call(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("a", hangs=True))
    session_id = str(uuid.uuid4())
    running = asyncio.create_task(admin.chat(assistant.schema, "one", session_id))
    await asyncio.sleep(0.2)
    await admin.ask(204, "DELETE", f"/sessions/{session_id}")
    turn = await running
    assert turn.one("error")["code"] == "stopped"
    await asyncio.wait_for(assistant.brain.cut_off.wait(), 2)
    await admin.ask(404, "GET", f"/sessions/{session_id}")


async def test_the_last_step_is_asked_without_tools_and_ends_in_an_answer(
    world: World, admin: Caller
) -> None:
    assistant = await world.assistant(
        admin, use("lake_query", {}), use("lake_query", {}), say("Enough."), tools=["lake_query"], max_steps=3
    )
    turn = await admin.chat(assistant.schema)
    assert ["tools" in request for request in assistant.brain.requests] == [True, True, False]
    assert turn.text == "Enough."
    assert turn.events[-2:] == ["message", "done"]


async def test_a_model_that_calls_tools_to_the_end_still_ends_with_words(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, use("lake_query", {}), tools=["lake_query"], max_steps=2)
    turn = await admin.chat(assistant.schema)
    assert "used up my steps" in turn.one("message")["content"]
    assert turn.one("message")["content"] == turn.text


async def test_sampling_reaches_the_model_only_where_the_agent_sets_it(world: World, admin: Caller) -> None:
    plain = await world.assistant(admin, say("hi"))
    await admin.chat(plain.schema)
    assert not {"temperature", "top_p", "max_tokens", "stop", "tools"} & plain.brain.requests[0].keys()
    chosen = await world.assistant(
        admin, say("hi"), temperature=0.5, top_p=0.9, max_tokens=10, stop_sequences=["END"]
    )
    await admin.chat(chosen.schema)
    request = chosen.brain.requests[0]
    assert (request["temperature"], request["top_p"]) == (0.5, 0.9)
    assert (request["max_tokens"], request["stop"]) == (10, ["END"])


async def test_headers_for_tools_are_with_the_turn_and_its_sub_agents_and_nowhere_else(
    world: World,
    admin: Caller,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    begun: list[Turn] = []
    built = Turn.__init__

    def notice(turn: Turn, *details: Any, **more: Any) -> None:
        built(turn, *details, **more)
        begun.append(turn)

    monkeypatch.setattr(Turn, "__init__", notice)
    below = await world.assistant(admin, say("Looked."))
    hand_on = use(f"spawn_{below.agent}", {"description": "Look."})
    above = await world.assistant(admin, hand_on, say("ok"), can_spawn=[below.agent])
    body = {"message": "hi", "headers": {"X-User-Token": "told-to-nobody"}, "stream": False}
    response = await admin.call(
        "POST", f"/schemas/{above.schema}/chat", body, headers={"X-Org-Id": "told-to-none"}
    )
    assert response.status_code == 200
    assert len(begun) == 2
    for turn in begun:
        chosen = turn.assignment.forwarded_headers.chosen(["X-Org-Id", "X-User-Token", "X-Other"])
        assert chosen == {"X-Org-Id": "told-to-none", "X-User-Token": "told-to-nobody"}
        assert "told-to" not in repr(turn.assignment)
    async with database.any_tenant() as connection:
        for table in ("sessions", "turns", "messages"):
            rows = await connection.fetch(
                f"select {table}::text from {table} where tenant_id = $1",
                admin.principal.tenant_id,
            )
            assert rows
            assert "told-to" not in str(rows)
    assert "told-to" not in str(above.brain.requests + above.brain.headers + below.brain.headers)
    printed = capfd.readouterr()
    assert "told-to" not in printed.out + printed.err


@pytest.mark.parametrize(
    "headers", [{"X-A": "1\r\nX-B: 2"}, {"Host": "x"}, {"X-A": 1}, ["X-A"], {"X A": "1"}]
)
async def test_headers_that_could_not_be_sent_are_refused_before_the_stream(
    world: World, admin: Caller, headers: Any
) -> None:
    assistant = await world.assistant(admin)
    body = {"message": "hi", "headers": headers}
    refusal = await admin.ask(400, "POST", f"/schemas/{assistant.schema}/chat", body)
    assert refusal["errors"][0]["path"].startswith("headers")
    assert not assistant.brain.requests
