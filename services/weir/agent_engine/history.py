"""A session's entries as the messages that a model is sent."""

from collections.abc import Iterable, Sequence
from itertools import chain

from weir.agent_engine.models.base import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage
from weir.agent_engine.tables.messages import MessageRow


def messages_of(rows: Sequence[MessageRow]) -> list[Message]:
    """Each step's text and calls are one message, and its results follow; a call without a result is left out."""
    answered = {row.call_id for row in rows if row.event_type == "tool_result"}
    called = {row.call_id for row in rows if row.event_type == "tool_call"}
    found: list[Message] = []
    for row in rows:
        match row.event_type:
            case "user_message":
                found.append(UserMessage(str(row.payload["content"])))
            case "assistant_message":
                found.append(AssistantMessage(str(row.payload["content"])))
            case "tool_call" if row.call_id in answered:
                _add_call(found, _call(row))
            case "tool_result" if row.call_id in called:
                found.append(ToolMessage(row.call_id or "", str(row.payload["content"])))
            case _:
                pass
    return found


def messages_of_sub_agent(rows: Sequence[MessageRow]) -> list[Message]:
    """What a sub-agent did for earlier calls, one call after another though they may have run side by side."""
    calls: dict[tuple[str, str | None], list[MessageRow]] = {}
    for row in rows:
        calls.setdefault((row.turn_id, row.parent_call_id), []).append(row)
    return list(chain.from_iterable(messages_of(call) for call in calls.values()))


def _add_call(found: list[Message], call: ToolCall) -> None:
    """Text before a call belongs to the same message of the model."""
    if found and isinstance(found[-1], AssistantMessage):
        text = found.pop()
        assert isinstance(text, AssistantMessage)
        found.append(AssistantMessage(text.content, (*text.calls, call)))
    else:
        found.append(AssistantMessage("", (call,)))


def _call(row: MessageRow) -> ToolCall:
    return ToolCall(row.call_id or "", str(row.payload["tool"]), str(row.payload["written"]))


def groups_of(messages: Iterable[Message]) -> list[list[Message]]:
    """The messages in groups that only make sense together: calls and their results."""
    groups: list[list[Message]] = []
    for message in messages:
        if isinstance(message, ToolMessage) and groups:
            groups[-1].append(message)
        else:
            groups.append([message])
    return groups
