"""OpenAI's own clients at the gateway: what they ask for, what they get, and how they are refused."""

import asyncio
import json
import uuid
from typing import Any

import openai
import pytest
from tests.fakes.model_server import Reply, say, use
from tests.integration.agent_engine.door import Door, User, door, user
from tests.integration.agent_engine.gates import GATED, TABLE

from weir.agent_engine import events
from weir.agent_engine.metrics import SSE_OPEN

__all__ = ["door", "user"]

FORM = {
    "output_type": "form",
    "title": "Trip",
    "questions": [
        {"id": "where", "label": "Where to?", "type": "text", "default": "Rome"},
        {"id": "how", "label": "How?", "type": "select", "options": [{"label": "Train"}, {"label": "Bus"}]},
    ],
}


async def pieces_of(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def sent_to(assistant: Any, call: int = -1) -> list[dict[str, Any]]:
    return assistant.brain.requests[call]["messages"]


async def test_a_whole_answer_is_what_the_official_client_reads(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller, say("Hel", "lo"))
    answer = await user.ask(assistant.schema)
    assert (answer.object, answer.model) == ("chat.completion", assistant.schema)
    assert answer.id.startswith("chatcmpl-")
    [choice] = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == (
        "assistant",
        "Hello",
        "stop",
    )
    assert answer.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
    }


async def test_a_stream_is_what_the_official_client_reads(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller, say("Hel", "lo"))
    stream = await user.ask(assistant.schema, stream=True, stream_options={"include_usage": True})
    chunks = await pieces_of(stream)
    assert {(chunk.object, chunk.model) for chunk in chunks} == {("chat.completion.chunk", assistant.schema)}
    assert len({chunk.id for chunk in chunks}) == 1
    deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
    assert (deltas[0].role, [delta.content for delta in deltas[1:-1]]) == ("assistant", ["Hel", "lo"])
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None, None, None, "stop"]
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * 4
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 12)


async def test_without_asking_for_usage_no_chunk_has_any(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller, say("hi"))
    body = {"model": assistant.schema, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    response = await user.post(body)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.startswith(": ok\n\ndata: {")
    assert response.text.endswith("data: [DONE]\n\n")
    assert '"usage"' not in response.text
    lines = [line for line in response.text.splitlines() if line.startswith("data: {")]
    last = json.loads(lines[-1].removeprefix("data: "))
    assert last["choices"] == [{"delta": {}, "finish_reason": "stop", "index": 0, "logprobs": None}]


async def test_the_client_that_blocks_works_too(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller, say("Hel", "lo"))

    def ask() -> tuple[list[str], str | None, str]:
        messages: Any = [{"role": "user", "content": "hi"}]
        with openai.OpenAI(base_url=f"{user.door.url}/v1", api_key=user.credential) as client:
            names = [model.id for model in client.models.list()]
            whole = client.chat.completions.create(model=assistant.schema, messages=messages)
            with client.chat.completions.create(
                model=assistant.schema, messages=messages, stream=True
            ) as stream:
                streamed = text_of(list(stream))
        return names, whole.choices[0].message.content, streamed

    assert await asyncio.to_thread(ask) == ([assistant.schema], "Hello", "Hello")


async def test_the_clients_stream_helper_puts_the_answer_together(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller, say("Hel", "lo"))
    messages: Any = [{"role": "user", "content": "hi"}]
    async with user.client.chat.completions.stream(model=assistant.schema, messages=messages) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "Hello"
    assert final.choices[0].finish_reason == "stop"


TURNS: dict[str, tuple[tuple[Reply, ...], dict[str, Any]]] = {
    "plain": ((say("Hel", "lo"),), {}),
    "with a tool": (
        (use("no_such", {"n": 1}, after=("I look. ",)), say("Nothing.")),
        {"tools": ["lake_tables"]},
    ),
    "with thoughts": ((say("42", thinking=("Let me ", "see.")),), {}),
    "with a table": (
        (use("show_structured_output", TABLE, after=("Look:",)), say("Well?")),
        {"tools": ["show_structured_output"]},
    ),
    "with a form": ((use("show_structured_output", FORM),), {"tools": ["show_structured_output"]}),
    "of signs": ((say('Grüße 日本語 🚀 \u2028\u0085 "quoted"\n\ndata: [DONE]\n\nid: 1-1'),), {}),
    "cut": ((say("Once upon", finish="length"),), {}),
}


@pytest.mark.parametrize("kind", TURNS)
async def test_a_stream_and_a_whole_answer_say_the_same(user: User, kind: str) -> None:
    replies, agent = TURNS[kind]
    whole_of = await user.door.world.assistant(user.caller, *replies, **agent)
    stream_of = await user.door.world.assistant(user.caller, *replies, **agent)
    whole = await user.ask(whole_of.schema)
    chunks = await pieces_of(
        await user.ask(stream_of.schema, stream=True, stream_options={"include_usage": True})
    )
    [choice] = whole.choices
    assert choice.message.content == text_of(chunks)
    assert choice.finish_reason == chunks[-2].choices[0].finish_reason
    assert whole.usage == chunks[-1].usage
    thoughts = [chunk.choices[0].delta.model_extra.get("reasoning_content", "") for chunk in chunks[:-1]]
    assert choice.message.model_extra.get("reasoning_content", "") == "".join(thoughts)


async def test_tools_run_on_the_platform_and_are_not_told(user: User) -> None:
    replies, agent = TURNS["with a tool"]
    assistant = await user.door.world.assistant(user.caller, *replies, **agent)
    answer = await user.ask(assistant.schema)
    assert answer.choices[0].message.content == "I look. Nothing."
    assert answer.choices[0].message.tool_calls is None
    # Both steps of the turn count.
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (14, 10)


async def test_an_answer_that_was_cut_says_so(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller, *TURNS["cut"][0])
    assert (await user.ask(assistant.schema)).choices[0].finish_reason == "length"


async def test_thoughts_are_reasoning_content(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller, *TURNS["with thoughts"][0])
    message = (await user.ask(assistant.schema)).choices[0].message
    assert (message.content, message.model_extra["reasoning_content"]) == ("42", "Let me see.")


async def test_a_block_becomes_text_that_reads_well(user: User) -> None:
    replies, agent = TURNS["with a table"]
    assistant = await user.door.world.assistant(user.caller, *replies, **agent)
    answer = await user.ask(assistant.schema)
    assert answer.choices[0].message.content == "Look:\n\n**Laptops**\n\n- ProBook: 849\n\nWell?"


async def test_a_form_becomes_questions_and_the_next_message_answers_them(user: User) -> None:
    replies, agent = TURNS["with a form"]
    assistant = await user.door.world.assistant(user.caller, *replies, say("Booked."), **agent)
    answer = await user.ask(assistant.schema)
    assert answer.choices[0].message.content == (
        "**Trip**\n\n1. Where to? (default: Rome)\n\n2. How?\n   - Train\n   - Bus\n\n"
        "Please answer in your next message."
    )


async def test_a_confirmation_is_asked_in_the_stream_and_says_how_to_answer(user: User) -> None:
    assistant = await user.door.world.assistant(
        user.caller, use("show_structured_output", TABLE), say("Done."), **GATED
    )
    text = ""
    async with await user.ask(assistant.schema, stream=True) as stream:
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
            if "`POST " in text and "Done" not in text and "**Laptops**" not in text:
                path = text.partition("`POST ")[2].partition("`")[0]
                body = text.partition("the body `")[2].partition("`")[0]
                answered = await user.http.post(path, json=json.loads(body))
                assert answered.status_code == 200, answered.text
    assert text.startswith("**Approval needed.** May ")
    assert text.endswith("any other answer declines.\n\n**Laptops**\n\n- ProBook: 849\n\nDone.")


async def test_the_history_is_what_the_client_sent(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller, say("Teal."))
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"q": 1}'}}
    messages = [
        {"role": "system", "content": "Answer in one word."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "My colour"}, {"type": "text", "text": "is teal."}],
        },
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "seen"},
        {"role": "assistant", "content": "Noted.", "refusal": None, "annotations": []},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "Which?", "name": "ada"},
    ]
    await user.ask(assistant.schema, messages=messages)
    seen = sent_to(assistant)
    assert [message["role"] for message in seen] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert seen[1]["content"] == "My colour\nis teal."
    assert seen[2]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"q": 1}'}
    assert "seen" in seen[3]["content"]
    assert seen[5]["content"] == "Which?"


async def test_the_clients_instructions_come_after_the_agents_own(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller, say("ok"), system="You are the AUTHOR's.")
    messages = [{"role": "system", "content": "CALLER-WORDS"}, {"role": "user", "content": "hi"}]
    await user.ask(assistant.schema, messages=messages)
    prompt = sent_to(assistant)[0]["content"]
    assert prompt.startswith("You are the AUTHOR's.")
    assert prompt.index("does not contradict anything above") < prompt.index("CALLER-WORDS")


async def test_a_sub_agent_hears_nothing_of_the_clients_instructions_and_sampling(user: User) -> None:
    world = user.door.world
    helper = await world.assistant(user.caller, say("helped"), temperature=0.3)
    assistant = await world.assistant(
        user.caller,
        use(f"spawn_{helper.agent}", {"description": "help"}),
        say("ok"),
        can_spawn=[helper.agent],
    )
    messages = [{"role": "system", "content": "CALLER-WORDS"}, {"role": "user", "content": "hi"}]
    await user.ask(assistant.schema, messages=messages, temperature=1.5)
    assert "CALLER-WORDS" in sent_to(assistant)[0]["content"]
    assert assistant.brain.requests[0]["temperature"] == 1.5
    [asked] = helper.brain.requests
    assert "CALLER-WORDS" not in json.dumps(asked)
    assert asked["temperature"] == 0.3


async def test_sampling_is_the_callers_within_the_agents_limit(user: User) -> None:
    assistant = await user.door.world.assistant(
        user.caller, say("ok"), temperature=0.3, max_tokens=500, stop_sequences=["END"]
    )
    await user.ask(assistant.schema)
    await user.ask(assistant.schema, temperature=0, top_p=0.5, max_completion_tokens=50, stop="STOP")
    await user.ask(assistant.schema, max_tokens=5000, stop=["a", "b"])
    first, second, third = assistant.brain.requests
    assert (first["temperature"], first["max_tokens"], first["stop"]) == (0.3, 500, ["END"])
    assert (second["temperature"], second["top_p"], second["max_tokens"]) == (0, 0.5, 50)
    assert second["stop"] == ["STOP", "END"]
    assert (third["max_tokens"], third["stop"]) == (500, ["a", "b", "END"])


async def test_a_history_of_512_messages_is_sent_in_its_order(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller, say("ok"), max_context_size=200_000)
    messages = [
        {"role": ("user", "assistant")[number % 2], "content": f"number {number}"} for number in range(511)
    ]
    await user.ask(assistant.schema, messages=messages)
    assert [message["content"] for message in sent_to(assistant)[1:]] == [
        f"number {number}" for number in range(511)
    ]
    assert len(sent_to(assistant)) == 512


async def test_a_turn_is_recorded_as_any_other(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller, say("Hello"))
    messages = [
        {"role": "user", "content": "earlier"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "now"},
    ]
    raw = await user.client.chat.completions.with_raw_response.create(
        model=assistant.schema, messages=messages
    )
    session_id = raw.headers["x-session-id"]
    listed = (await user.http.get("/api/v1/sessions")).json()["sessions"]
    assert [session["id"] for session in listed] == [session_id]
    told = (await user.http.get(f"/api/v1/sessions/{session_id}/messages")).json()
    assert "earlier" not in json.dumps(told)
    assert [entry["event_type"] for entry in told] == ["user_message", "assistant_message"]


async def test_a_session_goes_on_by_its_header(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller, say("Noted."), say("Teal."))
    first = await user.client.chat.completions.with_raw_response.create(
        model=assistant.schema, messages=[{"role": "user", "content": "My colour is teal."}]
    )
    session_id = first.headers["x-session-id"]
    second = await user.client.chat.completions.with_raw_response.create(
        model=assistant.schema,
        messages=[
            {"role": "system", "content": "One word."},
            {"role": "user", "content": "INVENTED"},
            {"role": "assistant", "content": "INVENTED TOO"},
            {"role": "user", "content": "Which?"},
        ],
        extra_headers={"X-Session-Id": session_id},
    )
    assert second.headers["x-session-id"] == session_id
    seen = sent_to(assistant)
    assert [message["content"] for message in seen[1:]] == ["My colour is teal.", "Noted.", "Which?"]
    assert "One word." in seen[0]["content"]
    # The platform's own chat goes on with it too.
    turn = await user.caller.chat(assistant.schema, "And now?", session_id)
    assert turn.session_id == session_id
    assert len(sent_to(assistant)) == 6


async def test_one_turn_at_a_time_runs_in_a_session(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller, say("slow", delay=0.5))
    headers = {"X-Session-Id": str(uuid.uuid4())}
    both = await asyncio.gather(
        *(user.ask(assistant.schema, extra_headers=headers) for _ in range(2)), return_exceptions=True
    )
    [refused] = [answer for answer in both if isinstance(answer, openai.ConflictError)]
    [answer] = [answer for answer in both if not isinstance(answer, Exception)]
    assert answer.choices[0].message.content == "slow"
    assert (refused.code, refused.type) == ("conflict", "invalid_request_error")
    assert "still busy" in refused.message


async def test_a_client_that_asks_again_by_itself_gets_its_turn(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller, say("slow", delay=0.4))
    headers = {"X-Session-Id": str(uuid.uuid4())}
    patient = user.door.openai(user.credential, max_retries=4)
    messages: Any = [{"role": "user", "content": "hi"}]
    both = await asyncio.gather(
        *(
            patient.chat.completions.create(model=assistant.schema, messages=messages, extra_headers=headers)
            for _ in range(2)
        )
    )
    assert [answer.choices[0].message.content for answer in both] == ["slow", "slow"]
    await patient.close()


async def test_the_turn_goes_on_when_the_client_goes_and_nobody_is_left_reading(user: User) -> None:
    reading = SSE_OPEN._value.get()
    assistant = await user.door.world.assistant(user.caller, say(*["word "] * 20, pause=0.05))
    raw = await user.client.chat.completions.with_raw_response.create(
        model=assistant.schema, messages=[{"role": "user", "content": "hi"}], stream=True
    )
    session_id = raw.headers["x-session-id"]
    async with raw.parse() as stream:
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    async with asyncio.timeout(10):
        while SSE_OPEN._value.get() > reading:
            await asyncio.sleep(0.01)
        assert (await user.http.get(f"/api/v1/sessions/{session_id}")).json()["status"] == "active"
        while True:
            session = (await user.http.get(f"/api/v1/sessions/{session_id}")).json()
            if session["status"] == "completed":
                break
            await asyncio.sleep(0.05)
    assert session["messages"][-1]["content"] == "word " * 20


async def test_a_silence_is_broken_by_comments_that_clients_pass_over(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.05)
    assistant = await user.door.world.assistant(user.caller, say("late", delay=0.4))
    body = {"model": assistant.schema, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    assert (await user.post(body)).text.count(": heartbeat\n\n") >= 3
    assert text_of(await pieces_of(await user.ask(assistant.schema, stream=True))) == "late"


async def test_models_are_the_schemas_that_are_open_for_chat(user: User) -> None:
    world = user.door.world
    first, second = [await world.assistant(user.caller) for _ in range(2)]
    closed = await world.assistant(user.caller, schema={"chat_enabled": False})
    empty = await world.assistant(user.caller, schema={"entry_agent_id": None})
    listed = await user.client.models.list()
    assert [model.id for model in listed.data] == [first.schema, second.schema]
    assert {(model.object, model.owned_by) for model in listed.data} == {("model", "weir")}
    shown = await user.client.models.retrieve(first.schema)
    assert shown == listed.data[0]
    for name in (closed.schema, empty.schema, "no-such", "No Such!"):
        with pytest.raises(openai.NotFoundError) as refused:
            await user.client.models.retrieve(name)
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


async def test_a_schema_of_another_tenant_is_not_there(user: User, database: Any) -> None:
    other_tenant = str(uuid.uuid4())
    async with database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) values ($1)", other_tenant)
    other = user.door.world.caller(other_tenant)
    theirs = await user.door.world.assistant(other)
    [schema] = await other.ask(200, "GET", "/schemas")
    await other.http.aclose()
    assert (await user.client.models.list()).data == []
    for name in (theirs.schema, schema["id"]):
        with pytest.raises(openai.NotFoundError) as refused:
            await user.ask(name)
        assert refused.value.code == "model_not_found"
        assert "GET /v1/models" in refused.value.message
        with pytest.raises(openai.NotFoundError):
            await user.client.models.retrieve(name)
    assert not theirs.brain.requests


async def test_a_session_of_another_user_is_not_there(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller)
    raw = await user.client.chat.completions.with_raw_response.create(
        model=assistant.schema, messages=[{"role": "user", "content": "hi"}]
    )
    other = user.door.openai(user.door.session(user.tenant_id, "chat", "other"))
    with pytest.raises(openai.NotFoundError) as refused:
        await other.chat.completions.create(
            model=assistant.schema,
            messages=[{"role": "user", "content": "hi"}],
            extra_headers={"X-Session-Id": raw.headers["x-session-id"]},
        )
    assert refused.value.code == "not_found"
    await other.close()


async def test_a_schema_that_is_not_open_is_refused_as_in_chat(user: User) -> None:
    closed = await user.door.world.assistant(user.caller, schema={"chat_enabled": False})
    empty = await user.door.world.assistant(user.caller, schema={"entry_agent_id": None})
    with pytest.raises(openai.PermissionDeniedError) as refused:
        await user.ask(closed.schema)
    assert (refused.value.code, refused.value.type) == ("chat_disabled", "permission_error")
    with pytest.raises(openai.BadRequestError, match="no entry agent"):
        await user.ask(empty.schema)


@pytest.mark.parametrize("scopes", [("chat",), ("chat", "lake:read")])
async def test_the_platforms_tokens_are_api_keys(door: Door, user: User, scopes: tuple[str, ...]) -> None:
    assistant = await door.world.assistant(user.caller, say("Hello"))
    async with door.openai(await door.token(user.tenant_id, *scopes)) as client:
        answer = await client.chat.completions.create(
            model=assistant.schema, messages=[{"role": "user", "content": "hi"}]
        )
    assert answer.choices[0].message.content == "Hello"


async def test_a_key_of_the_lake_alone_is_refused_and_the_scope_is_named(door: Door, user: User) -> None:
    token = await door.token(user.tenant_id, "lake:read")
    assert token.startswith("rbk_")
    async with door.openai(token) as client:
        for asking in (
            client.models.list(),
            client.models.retrieve("x"),
            client.chat.completions.create(model="x", messages=[]),
        ):
            with pytest.raises(openai.PermissionDeniedError, match="'chat' scope"):
                await asking


async def test_a_wrong_key_is_told_as_openai_tells_it(door: Door) -> None:
    async with door.openai("sk-not-ours") as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.models.list()
    assert (refused.value.code, refused.value.type) == ("invalid_api_key", "authentication_error")
    async with door.http("") as client:
        missing = await client.post("/v1/chat/completions", json={})
    assert missing.status_code == 401
    assert set(missing.json()["error"]) == {"message", "type", "param", "code"}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": None}, "model"),
    "a model that is a number": ({"model": 7}, "model"),
    "no messages": ({"messages": []}, "messages"),
    "messages that are a text": ({"messages": "hi"}, "messages"),
    "a message that is a text": ({"messages": ["hi"]}, "messages.0"),
    "a message without a role": ({"messages": [{"content": "hi"}]}, "messages.0.role"),
    "a strange role": ({"messages": [{"role": "robot", "content": "hi"}]}, "messages.0.role"),
    "an old function": ({"messages": [{"role": "function", "content": "x", "name": "f"}]}, "messages.0.role"),
    "only a system message": ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
    "an assistant's message last": ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
    "a user's message and then a system one": (
        {"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "x"}]},
        "messages",
    ),
    "an empty message": ({"messages": [{"role": "user", "content": " \n"}]}, "messages.0.content"),
    "no content": ({"messages": [{"role": "user"}]}, "messages.0.content"),
    "no parts": ({"messages": [{"role": "user", "content": []}]}, "messages.0.content"),
    "a content that is a number": ({"messages": [{"role": "user", "content": 1}]}, "messages.0.content"),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
        "messages.0.content.0.type",
    ),
    "a sound": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "input_audio"}]}]},
        "messages.0.content.1.type",
    ),
    "a message that is too long": (
        {"messages": [{"role": "user", "content": "x" * 400_001}]},
        "messages.0.content",
    ),
    "a result without a call": (
        {
            "messages": [
                {"role": "tool", "tool_call_id": "c", "content": "x"},
                {"role": "user", "content": "x"},
            ]
        },
        "messages.0.tool_call_id",
    ),
    "a call without a result": (
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}],
                },
                {"role": "user", "content": "x"},
            ]
        },
        "messages.1",
    ),
    "two calls of one id": (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f"}}] * 2}]},
        "messages.0.tool_calls",
    ),
    "a call that is no function": (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]}]},
        "messages.0.tool_calls",
    ),
    "too many messages": ({"messages": [{"role": "user", "content": "x"}] * 2049}, "messages"),
    "two answers": ({"n": 2}, "n"),
    "tools": ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    "a forced tool": ({"tool_choice": "required"}, "tool_choice"),
    "functions": ({"functions": [{"name": "f"}]}, "functions"),
    "a forced function": ({"function_call": {"name": "f"}}, "function_call"),
    "a JSON schema": ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
    "JSON": ({"response_format": {"type": "json_object"}}, "response_format"),
    "probabilities": ({"logprobs": True}, "logprobs"),
    "top probabilities": ({"top_logprobs": 3}, "top_logprobs"),
    "weights": ({"logit_bias": {"50256": -100}}, "logit_bias"),
    "speech": ({"modalities": ["text", "audio"]}, "modalities"),
    "a voice": ({"audio": {"voice": "alloy"}}, "audio"),
    "a web search": ({"web_search_options": {}}, "web_search_options"),
    "a temperature that boils": ({"temperature": 3}, "temperature"),
    "a temperature in words": ({"temperature": "hot"}, "temperature"),
    "no tokens": ({"max_tokens": 0}, "max_tokens"),
    "too many ends": ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    "a stream that is a text": ({"stream": "yes"}, "stream"),
    "options that are a list": ({"stream_options": []}, "stream_options"),
}


@pytest.mark.parametrize("kind", WRONG)
async def test_a_wrong_body_is_400_with_a_sentence_that_names_its_place(user: User, kind: str) -> None:
    changed, place = WRONG[kind]
    body = {"model": "x", "messages": [{"role": "user", "content": "hi"}]} | changed
    response = await user.post({name: value for name, value in body.items() if value is not None})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", place)
    assert error["message"].startswith(f"{place}: ")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"x"',
        b"\xff\xfe",
        b'{"model": "\xff"}',
        b"[" * 100_000,
        b'{"model": "x", "messages": [{"role": "user", "content": "a\\u0000b"}]}',
        b'{"model": "x", "messages": ' + b'[{"role": ' * 5_000,
    ],
)
async def test_a_body_that_is_no_request_is_400_in_openais_words(user: User, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    response = await user.http.post("/v1/chat/completions", content=content, headers=headers)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) > 20


async def test_what_passes_over_without_harm(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller, say("ok"))
    body = {
        "model": assistant.schema,
        "messages": [{"role": "user", "content": "hi"}],
        "n": 1,
        "user": "ada",
        "seed": 7,
        "store": True,
        "metadata": {"a": "b"},
        "presence_penalty": 0.1,
        "frequency_penalty": 0.1,
        "service_tier": "auto",
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
        "tools": [],
        "tool_choice": "auto",
        "logprobs": False,
        "response_format": {"type": "text"},
        "modalities": ["text"],
        "stop": None,
        "something_new": [1],
    }
    response = await user.post(body)
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"] == "ok"
    assert "seed" not in assistant.brain.requests[0]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/v1/chat", 404),
        ("GET", "/v1/models/a/b", 404),
    ],
)
async def test_a_wrong_path_or_method_is_told_in_openais_words(
    user: User, method: str, path: str, status: int
) -> None:
    response = await user.http.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_a_body_over_the_limit_is_413_in_openais_words(user: User) -> None:
    response = await user.http.post("/v1/chat/completions", content=b"x" * 1_100_000)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize("session_id", ["x", "1", "00000000-0000-0000-0000-00000000000g", "a" * 4000])
async def test_a_session_id_that_is_none_is_400(user: User, session_id: str) -> None:
    assistant = await user.door.world.assistant(user.caller)
    with pytest.raises(openai.BadRequestError, match="is a UUID") as refused:
        await user.ask(assistant.schema, extra_headers={"X-Session-Id": session_id})
    assert refused.value.param == "X-Session-Id"


FAILURES: dict[str, tuple[Reply, int, str]] = {
    "a key that is refused": (Reply(status=401), 502, "model_unauthorized"),
    "a limit": (Reply(status=429, headers={"retry-after": "600"}), 429, "rate_limit_exceeded"),
    "a model that is garbled": (Reply(raw=b"data: {nonsense\n\n"), 502, "model_garbled"),
    "a model that says nothing": (Reply(), 502, "model_silent"),
    "a model that breaks off": (say("half", drops=True), 502, "model_unavailable"),
    "a conversation that is too long": (Reply(status=413), 400, "context_length_exceeded"),
}


@pytest.mark.parametrize("kind", FAILURES)
async def test_a_turn_that_fails_is_an_error_of_the_client(user: User, kind: str) -> None:
    reply, status, code = FAILURES[kind]
    assistant = await user.door.world.assistant(user.caller, reply)
    patient = user.door.openai(user.credential, max_retries=2)
    messages: Any = [{"role": "user", "content": "hi"}]
    with pytest.raises(openai.APIStatusError) as whole:
        await patient.chat.completions.create(model=assistant.schema, messages=messages)
    assert (whole.value.status_code, whole.value.code) == (status, code)
    session_id = whole.value.response.headers["x-session-id"]
    assert (await user.http.get(f"/api/v1/sessions/{session_id}")).json()["status"] == "failed"
    # A turn that failed is not run again by a client that asks again by itself.
    assert (await user.http.get("/api/v1/sessions")).json()["total"] == 1
    stream = await patient.chat.completions.create(model=assistant.schema, messages=messages, stream=True)
    with pytest.raises(openai.APIError) as streamed:
        await pieces_of(stream)
    assert streamed.value.message == whole.value.body["message"]
    assert streamed.value.code == whole.value.code
    await patient.close()


async def test_a_turn_that_takes_too_long_is_504(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller, say("x", hangs=True), max_turn_duration=1)
    with pytest.raises(openai.APIStatusError) as refused:
        await user.ask(assistant.schema)
    assert (refused.value.status_code, refused.value.code) == (504, "timeout")


async def test_a_model_of_ones_own_answers_here_too(user: User) -> None:
    world = user.door.world
    assistant = await world.assistant(user.caller, say("configured"))
    brain = world.models.brain(say("own"))
    headers = {
        "X-Model-Provider": "openai_compatible",
        "X-Model-API-Key": "own-key",
        "X-Model-Name": brain.name,
        "X-Model-Base-URL": world.models.base_url,
    }
    with pytest.raises(openai.PermissionDeniedError, match="not enabled"):
        await user.ask(assistant.schema, extra_headers=headers)
    await user.caller.ask(200, "PUT", "/settings/byok.openai_compatible", {"value": True})
    answer = await user.ask(assistant.schema, extra_headers=headers)
    assert answer.choices[0].message.content == "own"
    assert not assistant.brain.requests


async def test_sixty_four_clients_at_once_get_their_own_answers(user: User) -> None:
    world = user.door.world
    assistants = [await world.assistant(user.caller, say("I am ", str(number))) for number in range(8)]

    async def ask(number: int) -> str:
        stream = await user.ask(assistants[number % 8].schema, stream=True)
        return text_of(await pieces_of(stream))

    answers = await asyncio.gather(*map(ask, range(64)))
    assert answers == [f"I am {number % 8}" for number in range(64)]


async def test_the_gateways_metrics_have_the_routes_template(user: User) -> None:
    assistant = await user.door.world.assistant(user.caller)
    await user.client.models.retrieve(assistant.schema)
    text = (await user.http.get("/metrics")).text
    assert 'route="/v1/models/{name}"' in text
    assert assistant.schema not in text
