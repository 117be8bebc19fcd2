"""What a model is sent of a conversation: whole steps, the newest that fit, the live message always."""

from datetime import UTC, datetime
from typing import Any

from weir.agent_engine.budget import fit
from weir.agent_engine.history import messages_of
from weir.agent_engine.models.base import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage
from weir.agent_engine.tables.messages import MessageRow

LONG = "word " * 200


def row(event_type: str, payload: dict[str, Any], call_id: str | None = None) -> MessageRow:
    return MessageRow(
        id=1,
        turn_id="t",
        event_type=event_type,
        agent="a",
        call_id=call_id,
        payload=payload,
        created_at=datetime.now(UTC),
    )


def called(call_id: str) -> MessageRow:
    return row("tool_call", {"tool": "look", "arguments": {}, "written": "{}"}, call_id)


def returned(call_id: str) -> MessageRow:
    return row("tool_result", {"tool": "look", "content": "seen", "is_error": False}, call_id)


def said(text: str) -> MessageRow:
    return row("assistant_message", {"content": text})


def test_text_and_calls_of_one_step_are_one_message() -> None:
    rows = [
        row("user_message", {"content": "hi"}),
        row("reasoning", {"content": "hm"}),
        said("I look."),
        called("c1"),
        called("c2"),
        returned("c1"),
        returned("c2"),
        called("c3"),
        returned("c3"),
        said("Done."),
    ]
    assert messages_of(rows) == [
        UserMessage("hi"),
        AssistantMessage("I look.", (ToolCall("c1", "look", "{}"), ToolCall("c2", "look", "{}"))),
        ToolMessage("c1", "seen"),
        ToolMessage("c2", "seen"),
        AssistantMessage("", (ToolCall("c3", "look", "{}"),)),
        ToolMessage("c3", "seen"),
        AssistantMessage("Done."),
    ]


def test_calls_without_results_and_results_without_calls_are_left_out() -> None:
    rows = [row("user_message", {"content": "hi"}), called("lost"), returned("odd"), said("Done.")]
    assert messages_of(rows) == [UserMessage("hi"), AssistantMessage("Done.")]


def fitted(messages: list[Message], max_tokens: int) -> list[Message]:
    return fit(messages, max_tokens=max_tokens, system="", tools=())


def test_what_fits_is_sent_whole() -> None:
    messages: list[Message] = [UserMessage("a"), AssistantMessage("b"), UserMessage("c")]
    assert fitted(messages, 1000) == messages


def test_the_oldest_goes_first_and_calls_go_with_their_results() -> None:
    call = AssistantMessage("", (ToolCall("c", "look", LONG),))
    messages: list[Message] = [
        UserMessage("first"),
        call,
        ToolMessage("c", LONG),
        AssistantMessage("answer"),
        UserMessage("live"),
    ]
    assert fitted(messages, 100) == [AssistantMessage("answer"), UserMessage("live")]


def test_the_live_message_and_the_newest_step_stay_whatever_they_cost() -> None:
    call = AssistantMessage("", (ToolCall("c", "look", "{}"),))
    messages: list[Message] = [
        UserMessage("old"),
        UserMessage(LONG),
        call,
        ToolMessage("c", LONG),
        call,
        ToolMessage("c", "new"),
    ]
    assert fitted(messages, 10) == [UserMessage(LONG), call, ToolMessage("c", "new")]
