"""What happens in a turn: told to its readers at once, kept for the ledger until a step ends."""

from typing import Any

import msgspec

from weir.agent_engine.events import EventLog
from weir.agent_engine.tables.messages import Entry
from weir.agent_engine.tools.base import Call

SUMMARY_CHARACTERS = 120


class Transcript:
    """The events of a turn and the entries that will stand for them in the session."""

    def __init__(self, events: EventLog, agent: str) -> None:
        self.events = events
        self.uses: list[dict[str, Any]] = []
        self._agent = agent
        self._said: list[str] = []
        self._answer: list[str] = []
        self._thoughts: list[str] = []
        self._unwritten: list[Entry] = []
        self._sequence = 0

    @property
    def text(self) -> str:
        """Everything that the agent has said, across its tool calls."""
        return "".join(self._said)

    def speak(self, content: str) -> None:
        self._said.append(content)
        self._answer.append(content)
        self.events.append("message_delta", {"content": content})

    def think(self, content: str) -> None:
        self._thoughts.append(content)
        self.events.append("thinking", {"content": content})

    def end_answer(self) -> str:
        """Keeps what one answer of the model held, as far as it came; its text."""
        thoughts, text = "".join(self._thoughts), "".join(self._answer)
        self._thoughts, self._answer = [], []
        if thoughts:
            self._keep("reasoning", {"content": thoughts})
        if text:
            self._keep("assistant_message", {"content": text})
        return text

    def called(self, call: Call) -> None:
        self.events.append("tool_call", call_data(call.tool, call.call_id, call.arguments))
        self._keep(
            "tool_call",
            {"tool": call.tool, "arguments": call.arguments, "written": call.written},
            call.call_id,
        )

    def returned(self, call: Call, text: str, *, has_error: bool, milliseconds: int) -> None:
        """A result, or a failure whose text says so; it is told in full."""
        self.events.append("tool_result", result_data(call.tool, call.call_id, text, has_error=has_error))
        self._keep(
            "tool_result",
            {"tool": call.tool, "content": text, "is_error": has_error, "duration_ms": milliseconds},
            call.call_id,
        )
        self.uses.append({"tool": call.tool, "input": shown_input(call.arguments), "output": text})

    def take_unwritten(self) -> list[Entry]:
        entries, self._unwritten = self._unwritten, []
        return entries

    def _keep(self, event_type: str, payload: dict[str, Any], call_id: str | None = None) -> None:
        self._sequence += 1
        self._unwritten.append(
            Entry(
                sequence=self._sequence,
                event_type=event_type,
                agent=self._agent,
                payload=payload,
                call_id=call_id,
            )
        )


def call_data(tool: str, call_id: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"tool": tool, "input": shown_input(arguments), "call_id": call_id, "arguments": arguments}


def result_data(tool: str, call_id: str, text: str, *, has_error: bool) -> dict[str, Any]:
    return {
        "tool": tool,
        "output": text,
        "call_id": call_id,
        "content": text,
        "has_error": has_error,
        "summary": _summary(text),
    }


def error_data(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "content": message}


def done_data(session_id: str, *, input_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {
        "session_id": session_id,
        "total_tokens": input_tokens + output_tokens,
        "context_tokens": input_tokens,
    }


def shown_input(arguments: dict[str, Any]) -> dict[str, str]:
    """Arguments as the reference shows them: scalars as text, anything else as compact JSON."""
    return {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for name, value in arguments.items()
    }


def _summary(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= SUMMARY_CHARACTERS else line[: SUMMARY_CHARACTERS - 1] + "…"
