"""Our Messages wire against the official SDK's types: what we send they accept, what they send we read."""

from typing import Any

import pytest
from anthropic.types import RawMessageStreamEvent
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from msgspec.structs import replace
from pydantic import ConfigDict, TypeAdapter, with_config
from tests.fakes.model_server import Call, Reply
from tests.fakes.provider_server import FakeProviders, anthropic_events
from tests.unit.agent_engine.conftest import access_to, hear

from weir.agent_engine.models.anthropic_answer import AnswerInPieces
from weir.agent_engine.models.anthropic_request import OPENING, request_body
from weir.agent_engine.models.base import (
    AssistantMessage,
    ModelOverloaded,
    ModelUnavailable,
    Prompt,
    Sampling,
    TextPart,
    ThinkingPart,
    ToolCall,
    ToolDefinition,
    ToolMessage,
    UserMessage,
)
from weir.agent_engine.models.client import WireClient

ACCESS = access_to("anthropic", "https://api.anthropic.com/v1", model_name="claude-x")
LOOK = ToolDefinition(name="look", description="Looks.", parameters={})
ECHO = {
    "thinking": [
        {"type": "thinking", "thinking": "hm", "signature": "signed"},
        {"type": "redacted_thinking", "data": "sealed"},
    ]
}
PROMPT = Prompt(
    system="Help.",
    messages=[
        UserMessage("hi"),
        AssistantMessage(
            "Let me see.", (ToolCall("c1", "look", '{"a": 1}'), ToolCall("c/2", "look", "{oops")), ECHO
        ),
        ToolMessage("c1", "seen"),
        ToolMessage("c/2", "[ERROR] no"),
        UserMessage("go on"),
        AssistantMessage(""),
        UserMessage("more"),
    ],
    tools=[LOOK],
    sampling=Sampling(temperature=1.5, top_p=0.9, max_tokens=10, stop=("END", "\n")),
)
SAMPLING = {"temperature", "top_p"}


def checked(body: dict[str, Any]) -> dict[str, Any]:
    """The body as the SDK types it; a field that it does not know is no request of its."""
    strict = with_config(ConfigDict(extra="forbid"))(MessageCreateParamsStreaming)
    return TypeAdapter(strict).validate_python(body)


def test_a_request_validates_as_the_sdk_types_it() -> None:
    body = request_body(replace(ACCESS, api_version="2026-10-21"), PROMPT)
    checked(body)
    assert body["max_tokens"] == 10
    assert body["stop_sequences"] == ["END"]
    assert body["tools"][0]["input_schema"] == {"type": "object", "properties": {}}


def test_the_older_version_takes_a_temperature_and_the_newer_none() -> None:
    older = request_body(ACCESS, PROMPT)
    assert older.keys() & SAMPLING == {"temperature"}
    assert older["temperature"] == 1.0
    newer = request_body(replace(ACCESS, api_version="2026-10-21"), PROMPT)
    assert not newer.keys() & SAMPLING
    assert {key: value for key, value in older.items() if key not in SAMPLING} == newer
    cool = replace(PROMPT, sampling=Sampling(top_p=0.9))
    assert request_body(ACCESS, cool).keys() & SAMPLING == {"top_p"}


def test_results_of_a_step_stand_together_and_thoughts_go_back_before_their_calls() -> None:
    messages = request_body(ACCESS, PROMPT)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    said = messages[1]["content"]
    assert said[:2] == ECHO["thinking"]
    assert [block["type"] for block in said[2:]] == ["text", "tool_use", "tool_use"]
    assert [block["input"] for block in said[3:]] == [{"a": 1}, {}]
    first, second, *rest = messages[2]["content"]
    assert (first["tool_use_id"], first["content"]) == ("c1", "seen")
    assert (second["tool_use_id"], second["is_error"]) == (said[4]["id"], True)
    assert said[4]["id"].replace("_", "").isalnum()
    assert [block["text"] for block in rest] == ["go on", "more"]


def test_a_conversation_without_its_beginning_still_begins_with_the_user() -> None:
    prompt = Prompt(system="", messages=[AssistantMessage("So."), UserMessage("hi")])
    body = request_body(ACCESS, prompt)
    checked(body)
    assert body["messages"][0]["content"][0]["text"] == OPENING
    assert "system" not in body


@pytest.mark.parametrize(
    ("model", "tokens"),
    [("claude-3-opus-20240229", 4096), ("claude-sonnet-4-20250514", 8192), ("claude-opus-4-6", 32000)],
)
def test_an_answer_has_a_limit_even_when_the_agent_names_none(model: str, tokens: int) -> None:
    prompt = Prompt(system="", messages=[UserMessage("hi")])
    assert request_body(replace(ACCESS, model_name=model), prompt)["max_tokens"] == tokens


SAID = Reply(
    thinking=("h", "m"), text=("Hel", "lo"), calls=(Call("look", {"a": 1}, "c1"), Call("find", {}, "c2"))
)


@pytest.mark.parametrize("size", [1, 2, 7, 50, 10_000])
def test_events_of_the_sdk_are_read_however_they_are_cut(size: int) -> None:
    events = [TypeAdapter(RawMessageStreamEvent).validate_python(event) for event in anthropic_events(SAID)]
    whole = b"".join(
        f"event: {event.type}\r\ndata: {event.model_dump_json()}\r\n\r\n".encode() for event in events
    )
    answer = AnswerInPieces()
    parts = [
        part for start in range(0, len(whole), size) for part in answer.read(whole[start : start + size])
    ]
    *said, finish = [*parts, *answer.end()]
    assert said == [ThinkingPart("h"), ThinkingPart("m"), TextPart("Hel"), TextPart("lo")]
    assert finish.calls == (ToolCall("c1", "look", '{"a": 1}'), ToolCall("c2", "find", "{}"))
    assert (finish.reason, finish.input_tokens, finish.output_tokens) == ("tool_calls", 30, 5)
    assert finish.cached_tokens == 20
    assert finish.echo == ECHO


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("tool_use", "tool_calls"),
    ],
)
async def test_reasons_have_their_common_names(
    providers: FakeProviders, client: WireClient, theirs: str, ours: str
) -> None:
    script = providers.script(Reply(text=("x",), finish=theirs))
    heard = await hear(client, access_to("anthropic", script.base_url))
    assert heard.finish.reason == ours


async def test_an_input_that_comes_with_its_block_is_read_too(
    providers: FakeProviders, client: WireClient
) -> None:
    raw = (
        b'data: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"tool_use","id":"c","name":"look","input":{"a":1}}}\n\n'
        b'data: {"type":"content_block_stop","index":0}\n\n'
        b'data: {"type":"ping"}\n\ndata: {"type":"something_new","index":3}\n\n'
        b'data: {"type":"message_stop"}\n\n'
    )
    script = providers.script(Reply(raw=raw))
    heard = await hear(client, access_to("anthropic", script.base_url))
    assert heard.finish.calls == (ToolCall("c", "look", '{"a":1}'),)


async def test_an_overload_within_the_stream_is_one(providers: FakeProviders, client: WireClient) -> None:
    raw = (
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    )
    script = providers.script(Reply(raw=raw))
    with pytest.raises(ModelOverloaded):
        await hear(client, access_to("anthropic", script.base_url))
    # It came after the first byte, so nobody asked again.
    assert len(script.asked) == 1


async def test_an_answer_without_its_end_is_cut_off(providers: FakeProviders, client: WireClient) -> None:
    script = providers.script(Reply(text=("Hel",), drops=True))
    with pytest.raises(ModelUnavailable):
        await hear(client, access_to("anthropic", script.base_url))
