"""Models that hang, lie and say what no model says: the turn ends in one word, and its session goes on."""

import asyncio
import json
from typing import Any

import pytest
from tests.fakes.model_server import Call, Reply, say
from tests.integration.agent_engine.conftest import Caller, World

from weir.agent_engine.models import asking
from weir.agent_engine.tables import turns


def raw(*chunks: dict[str, Any] | bytes, done: bool = True) -> Reply:
    """An answer of exactly these chunks."""
    written = [chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode() for chunk in chunks]
    end = b"data: [DONE]\n\n" if done else b""
    return Reply(raw=b"".join(b"data: " + chunk + b"\n\n" for chunk in written) + end)


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def counted(**usage: Any) -> Reply:
    return raw(chunk({"content": "ok"}), chunk({}, "stop"), {"choices": [], "usage": usage})


def calling(*calls: Call) -> Reply:
    return Reply(calls=calls)


def chunked_call(**function: Any) -> dict[str, Any]:
    return chunk({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": function}]})


LIES = {
    "counts beyond any integer": counted(prompt_tokens=10**30, completion_tokens=10**30),
    "counts just beyond a column": counted(prompt_tokens=2**62, completion_tokens=2**62),
    "counts below nothing": counted(prompt_tokens=-5, completion_tokens=-(10**12)),
    "counts that are texts": counted(prompt_tokens="many", completion_tokens=None),
    "counts in fractions": counted(prompt_tokens=1.5, completion_tokens=1e300),
    "no counts at all": raw(chunk({"content": "ok"}), chunk({}, "stop")),
    "an end of an unknown kind": raw(chunk({"content": "ok"}), chunk({}, "because")),
    "an end that is a number": raw(chunk({"content": "ok"}), b'{"choices":[{"delta":{},"finish_reason":7}]}'),
    "words after the end": raw(chunk({"content": "ok"}), chunk({}, "stop"), chunk({"content": "and more"})),
    "no delta": raw(chunk(None), chunk({"content": "ok"}), chunk({}, "stop")),
    "content that is null": raw(chunk({"content": None}), chunk({"content": "ok"}), chunk({}, "stop")),
    "content that is a number": raw(chunk({"content": 5}), chunk({}, "stop")),
    "two choices": raw({"choices": [{"index": n, "delta": {"content": "ok"}} for n in (0, 1)]}),
    "a NUL in everything": raw(chunk({"content": "o\0k", "role": "\0"}), chunk({}, "stop")),
    "half a surrogate pair": raw(b'{"choices":[{"delta":{"content":"\\ud800"},"finish_reason":"stop"}]}'),
    "a tool of no name": calling(Call("")),
    "a tool of a hostile name": calling(Call("../../\0;drop\r\ndata: x")),
    "a tool of a name without end": calling(Call("x" * 200_000)),
    "arguments with a NUL": calling(Call("lake_tables", {"a\0b": "c\0d"})),
    "arguments with half a pair": calling(Call("lake_tables", written='{"a": "\\ud800"}')),
    "arguments without end": calling(Call("lake_tables", written='{"a": "' + "x" * 3_000_000)),
    "arguments that are deep": calling(Call("lake_tables", written='{"a":' * 60_000)),
    "arguments that are a list": calling(Call("lake_tables", written="[1]")),
    "arguments of a huge number": calling(Call("lake_tables", written='{"a": 1' + "0" * 5000 + "}")),
    "arguments that are no number": calling(Call("lake_tables", written='{"a": NaN}')),
    "a call whose parts are of wrong types": raw(chunked_call(name=5, arguments=[]), chunk({}, "tool_calls")),
    "a call at a place below nothing": raw(
        chunk({"tool_calls": [{"index": -7, "id": "c", "function": {"name": "x", "arguments": "{}"}}]}),
        chunk({}, "tool_calls"),
    ),
    "an id without end": calling(Call("lake_tables", id="i" * 100_000)),
    "many calls of one id": calling(*(Call("lake_tables", id="same") for _ in range(20))),
    "five hundred calls at once": calling(*(Call(f"t{n}") for n in range(500))),
    "calls announced and not made": raw(chunk({}, "tool_calls")),
    "an event of another name": Reply(raw=b"event: nonsense\nid: 5\nretry: 1\ndata: {}\n\n"),
}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FAULT_PAUSE_SECONDS", 0.01)


@pytest.mark.parametrize("lie", LIES)
async def test_a_lying_model_neither_fails_the_platform_nor_spoils_its_session(
    world: World, admin: Caller, lie: str
) -> None:
    assistant = await world.assistant(admin, LIES[lie], say("Better."), tools=["lake_tables"])
    turn = await admin.chat(assistant.schema)
    codes = [frame.data["code"] for frame in turn.of("error")]
    assert turn.events[-2:] in (["message", "done"], ["error", "done"])
    assert "internal_error" not in codes, turn.frames
    assert all(code.startswith("model_") for code in codes), codes
    session = await admin.ask(200, "GET", f"/sessions/{turn.session_id}")
    assert session["status"] in ("completed", "failed")
    assert turn.one("done")["total_tokens"] >= 0
    again = await admin.chat(assistant.schema, "again", turn.session_id)
    assert again.one("message")["content"].endswith("Better.")
    listed = await admin.ask(200, "GET", f"/sessions/{turn.session_id}/messages")
    assert listed[-1]["payload"]["content"] == "Better."


async def test_an_end_that_cannot_be_written_is_told_and_frees_the_session(
    world: World, admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    assistant = await world.assistant(admin, say("ok"), say("Better."))
    write_end = turns.end_turn

    async def fail_once(*arguments: Any) -> bool:
        monkeypatch.setattr(turns, "end_turn", write_end)
        raise ValueError("a value that no column takes")

    monkeypatch.setattr(turns, "end_turn", fail_once)
    turn = await admin.chat(assistant.schema)
    assert turn.events[-2:] == ["error", "done"]
    assert turn.one("error")["code"] == "internal_error"
    again = await admin.chat(assistant.schema, "again", turn.session_id)
    assert again.one("message")["content"] == "Better."


async def test_an_end_that_can_never_be_written_is_told_too(
    world: World, admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*arguments: Any) -> bool:
        raise ValueError("a value that no column takes")

    assistant = await world.assistant(admin, say("ok"))
    monkeypatch.setattr(turns, "end_turn", fail)
    turn = await asyncio.wait_for(admin.chat(assistant.schema), 5)
    assert turn.events == ["message_delta", "error", "done"]
    assert turn.one("error")["code"] == "internal_error"
    assert "column" not in str(turn.frames)
