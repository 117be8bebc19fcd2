"""Our Gemini wire against the official SDK's types: what we send they accept, what they send we read."""

import base64
from typing import Any

import pytest
from google.genai import types as gemini
from tests.fakes.model_server import Call, Reply
from tests.fakes.provider_server import FakeProviders, gemini_chunks
from tests.unit.agent_engine.conftest import access_to, hear

from weir.agent_engine.models.base import (
    AssistantMessage,
    Finish,
    ModelGarbled,
    ModelOverloaded,
    ModelRefused,
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
from weir.agent_engine.models.gemini_answer import AnswerInPieces
from weir.agent_engine.models.gemini_request import request_body

SIGNED = base64.b64encode(b"signed").decode()
LOOK = ToolDefinition(
    name="look", description="Looks.", parameters={"properties": {"a": {"anyOf": [{"type": "integer"}]}}}
)
PROMPT = Prompt(
    system="Help.",
    messages=[
        UserMessage("hi"),
        AssistantMessage(
            "",
            (ToolCall("c1", "look", '{"a": 1}'), ToolCall("c2", "look", "{oops")),
            {"signatures": {"c1": SIGNED}},
        ),
        ToolMessage("c1", "seen"),
        ToolMessage("c2", "[ERROR] no"),
        AssistantMessage("Done."),
        AssistantMessage(""),
        UserMessage("more"),
    ],
    tools=[LOOK],
    sampling=Sampling(temperature=0.5, top_p=0.9, max_tokens=10, stop=tuple("abcdef")),
)


def test_a_request_validates_as_the_sdk_types_it() -> None:
    body = request_body(PROMPT)
    assert body.keys() == {"contents", "systemInstruction", "tools", "generationConfig"}
    for content in body["contents"]:
        gemini.Content.model_validate(content)
    gemini.Content.model_validate(body["systemInstruction"])
    gemini.Tool.model_validate(body["tools"][0])
    config = gemini.GenerationConfig.model_validate(body["generationConfig"])
    assert (config.max_output_tokens, config.top_p) == (10, 0.9)
    assert config.stop_sequences == list("abcde")


def test_results_of_a_step_are_one_content_and_signatures_go_back_with_their_calls() -> None:
    contents = request_body(PROMPT)["contents"]
    assert [content["role"] for content in contents] == ["user", "model", "user", "model", "user"]
    first, second = contents[1]["parts"]
    assert (first["thoughtSignature"], first["functionCall"]["args"]) == (SIGNED, {"a": 1})
    assert "thoughtSignature" not in second
    results: list[Any] = [part["functionResponse"] for part in contents[2]["parts"]]
    assert [result["name"] for result in results] == ["look", "look"]
    assert [result["response"] for result in results] == [{"output": "seen"}, {"error": "[ERROR] no"}]


def test_what_is_left_open_is_left_out() -> None:
    body = request_body(Prompt(system="", messages=[UserMessage("hi")]))
    assert body == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


SAID = Reply(
    thinking=("hm",), text=("Hel", "lo"), calls=(Call("look", {"a": 1}, "c1"), Call("find", {"b": 2}))
)


@pytest.mark.parametrize("size", [1, 3, 50, 10_000])
def test_chunks_of_the_sdk_are_read_however_they_are_cut(size: int) -> None:
    whole = b"".join(
        f"data: {chunk.model_dump_json(by_alias=True, exclude_none=True)}\r\n\r\n".encode()
        for chunk in gemini_chunks(SAID)
    )
    answer = AnswerInPieces()
    parts = [
        part for start in range(0, len(whole), size) for part in answer.read(whole[start : start + size])
    ]
    *said, finish = [*parts, *answer.end()]
    assert said == [ThinkingPart("hm"), TextPart("Hel"), TextPart("lo")]
    assert isinstance(finish, Finish)
    first, second = finish.calls
    assert first == ToolCall("c1", "look", '{"a":1}')
    assert (second.name, second.arguments) == ("find", '{"b":2}')
    assert second.call_id.startswith("call_")
    assert finish.reason == "tool_calls"
    assert (finish.input_tokens, finish.output_tokens) == (30, 9)
    assert (finish.cached_tokens, finish.reasoning_tokens) == (20, 4)
    assert finish.echo == {"signatures": {"c1": SIGNED}}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
    ],
)
async def test_reasons_have_their_common_names(
    providers: FakeProviders, client: WireClient, theirs: str, ours: str
) -> None:
    script = providers.script(Reply(text=("x",), finish=theirs))
    assert (await hear(client, access_to("google", script.base_url))).finish.reason == ours


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b'data: {"promptFeedback":{"blockReason":"SAFETY"}}\n\n', ModelRefused),
        (
            b'data: {"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL"}]}\n\n',
            ModelGarbled,
        ),
        (
            b'data: {"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}\n\n',
            ModelOverloaded,
        ),
        (b'[{"error":{"code":500,"message":"Internal","status":"INTERNAL"}}]', ModelUnavailable),
        (b'data: {"candidates":[{"content":{"parts":[{"text":"Hel"}]}}]}\n\n', ModelUnavailable),
    ],
)
async def test_failures_within_the_stream_have_their_types(
    providers: FakeProviders, client: WireClient, raw: bytes, error: type[Exception]
) -> None:
    script = providers.script(Reply(raw=raw))
    with pytest.raises(error):
        await hear(client, access_to("google", script.base_url))
    assert len(script.asked) == 1
