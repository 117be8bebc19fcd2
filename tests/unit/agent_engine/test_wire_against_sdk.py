"""Our chat-completions wire against the official SDK's types: what we send they accept, what they send we read."""

from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import Choice, ChoiceDelta, ChoiceDeltaToolCall
from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCallFunction as Function
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from openai.types.completion_usage import CompletionUsage
from pydantic import TypeAdapter

from weir.agent_engine.models.base import (
    AssistantMessage,
    Finish,
    ModelAccess,
    ModelGarbled,
    ModelUnavailable,
    Part,
    Prompt,
    Sampling,
    TextPart,
    ThinkingPart,
    ToolCall,
    ToolDefinition,
    ToolMessage,
    UserMessage,
)
from weir.agent_engine.models.openai_answer import AnswerInPieces
from weir.agent_engine.models.openai_request import request_body
from weir.agent_engine.models.thinking import ThinkingSplitter

ACCESS = ModelAccess(type="openai_compatible", model_name="m", base_url="https://example.com/v1")
TOOL = ToolDefinition(name="look", description="Looks.", parameters={"type": "object", "properties": {}})
PROMPT = Prompt(
    system="Help.",
    messages=[
        UserMessage("hi"),
        AssistantMessage("", (ToolCall("c1", "look", '{"a": 1}'), ToolCall("c2", "look", "{oops"))),
        ToolMessage("c1", "seen"),
        ToolMessage("c2", "[ERROR] no"),
        AssistantMessage("Done."),
        UserMessage("more"),
    ],
    tools=[TOOL],
    sampling=Sampling(temperature=0.5, top_p=0.9, max_tokens=10, stop=("END",)),
)


def chunk(
    delta: ChoiceDelta | None = None, finish: Any = None, usage: CompletionUsage | None = None
) -> bytes:
    choices = [Choice(index=0, delta=delta, finish_reason=finish)] if delta is not None else []
    made = ChatCompletionChunk(
        id="x", created=1, model="m", object="chat.completion.chunk", choices=choices, usage=usage
    )
    return b"data: " + made.model_dump_json().encode() + b"\n\n"


def read(*contents: bytes) -> list[Part]:
    answer = AnswerInPieces()
    parts = [part for content in contents for part in answer.read(content)]
    return [*parts, *answer.end()]


def test_a_request_validates_as_the_sdk_types_it() -> None:
    body = request_body(ACCESS, PROMPT)
    adapter = TypeAdapter(CompletionCreateParamsStreaming)
    checked: Any = adapter.validate_python(body)
    assert body.keys() <= CompletionCreateParamsStreaming.__annotations__.keys() | checked.keys()
    assert checked["stream_options"] == {"include_usage": True}
    assert [message["role"] for message in body["messages"]] == [
        "system", "user", "assistant", "tool", "tool", "assistant", "user"
    ]  # fmt: skip
    assert body["messages"][2]["tool_calls"][1]["function"]["arguments"] == "{}"


def test_what_is_left_open_is_left_out() -> None:
    body = request_body(ACCESS, Prompt(system="", messages=[UserMessage("hi")]))
    assert body.keys() == {"model", "messages", "stream", "stream_options"}
    assert body["messages"] == [{"role": "user", "content": "hi"}]


def test_chunks_of_the_sdk_are_read_as_text_calls_and_usage() -> None:
    def piece(index: int, id: str | None, name: str | None, arguments: str) -> ChoiceDelta:
        function = Function(name=name, arguments=arguments)
        return ChoiceDelta(tool_calls=[ChoiceDeltaToolCall(index=index, id=id, function=function)])

    parts = read(
        chunk(ChoiceDelta(role="assistant", content="")),
        chunk(ChoiceDelta(content="Hel")) + chunk(ChoiceDelta(content="lo")),
        chunk(piece(0, "c1", "look", "")),
        chunk(piece(1, "c2", "find", '{"b"')),
        chunk(piece(0, None, None, '{"a": 1}')),
        chunk(piece(1, None, None, ": 2}")),
        chunk(ChoiceDelta(), "tool_calls"),
        chunk(usage=CompletionUsage(prompt_tokens=7, completion_tokens=5, total_tokens=12)),
        b"data: [DONE]\n\n",
    )
    assert parts == [
        TextPart("Hel"),
        TextPart("lo"),
        Finish(
            reason="tool_calls",
            calls=(ToolCall("c1", "look", '{"a": 1}'), ToolCall("c2", "find", '{"b": 2}')),
            input_tokens=7,
            output_tokens=5,
        ),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_an_answer_reads_the_same_however_it_is_cut(size: int) -> None:
    whole = (
        b": hello\r\n\r\n"
        + chunk(ChoiceDelta(content="Grüße, "))
        + chunk(ChoiceDelta(content="😀"))
        + chunk(ChoiceDelta(), "stop")
        + b"data:[DONE]"
    )
    parts = read(*(whole[start : start + size] for start in range(0, len(whole), size)))
    assert "".join(part.content for part in parts if isinstance(part, TextPart)) == "Grüße, 😀"
    assert parts[-1] == Finish(reason="stop")


def test_calls_without_index_or_id_are_still_calls() -> None:
    raw = b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"look","arguments":"{}"}}]}}]}\n\n'
    parts = read(raw, raw, b"data: [DONE]\n\n")
    assert isinstance(parts[-1], Finish)
    assert [call.name for call in parts[-1].calls] == ["look", "look"]
    assert len({call.call_id for call in parts[-1].calls}) == 2
    assert all(call.call_id for call in parts[-1].calls)


def test_an_answer_without_an_end_is_cut_off() -> None:
    with pytest.raises(ModelUnavailable):
        read(chunk(ChoiceDelta(content="Hel")))


def test_an_event_that_never_ends_is_garbage() -> None:
    answer = AnswerInPieces()
    with pytest.raises(ModelGarbled):
        for _ in range(10):
            list(answer.read(b"data: " + b"x" * 1024 * 1024))


@pytest.mark.parametrize(
    ("pieces", "thought", "text"),
    [
        (["<think>a</think>b"], "a", "b"),
        (["<", "think>", "a", "</thi", "nk>", "\n\nb"], "a", "b"),
        (["  <think>a <b> c</think>d"], "a <b> c", "d"),
        (["<think>never ends"], "never ends", ""),
        (["<th"], "", "<th"),
        (["a <think>b</think>"], "", "a <think>b</think>"),
        (["", "plain", " text"], "", "plain text"),
    ],
)
def test_think_tags_are_sorted_out_wherever_they_are_cut(pieces: list[str], thought: str, text: str) -> None:
    splitter = ThinkingSplitter()
    parts = [part for piece in pieces for part in splitter.feed(piece)] + list(splitter.finish())
    assert "".join(part.content for part in parts if isinstance(part, ThinkingPart)) == thought
    assert "".join(part.content for part in parts if isinstance(part, TextPart)) == text
