"""What happens in a turn: told to its readers at once, kept for the ledger until a step ends."""

import asyncio
from typing import Any

import msgspec

from weir.agent_engine.events import MAX_BYTES, EventLog, TooMuchSaid
from weir.agent_engine.tables.agents import AgentRow
from weir.agent_engine.tables.messages import Entry
from weir.agent_engine.tools.base import Call

SUMMARY_CHARACTERS = 120
JOINED_AT = 16


class Pieces:
    """Text that comes in many small pieces; a piece by itself would take eight times the memory of its signs."""

    __slots__ = ("_joined", "_new")

    def __init__(self) -> None:
        self._joined: list[str] = []
        self._new: list[str] = []

    def add(self, piece: str) -> None:
        self._new.append(piece)
        if len(self._new) >= JOINED_AT:
            self._joined.append("".join(self._new))
            self._new.clear()

    def __str__(self) -> str:
        return "".join((*self._joined, *self._new))


class Pages:
    """The entries of a turn and of all its sub-agents, in one order, until they are written."""

    def __init__(self) -> None:
        self.unwritten: list[Entry] = []
        self.sequence = 0
        self.hidden_size = 0
        # One writer at a time, so that entries lie in the ledger in the order in which they happened.
        self.writing = asyncio.Lock()

    def count_hidden(self, size: int) -> None:
        """What no reader is told fills no log, and is bounded all the same. Raises TooMuchSaid."""
        self.hidden_size += size
        if self.hidden_size > MAX_BYTES:
            raise TooMuchSaid


class Transcript:
    """The events of a turn and the entries that will stand for them in the session.

    Of a sub-agent only that is told which concerns the user: what is asked of it, and what is shown to it.
    """

    def __init__(self, events: EventLog, agent: str) -> None:
        self.events = events
        self.uses: list[dict[str, Any]] = []
        self.asks_user = False
        self.last_answer = ""
        self._agent = agent
        self._said, self._answer, self._thoughts = Pieces(), Pieces(), Pieces()
        self._spoken_at = self._thought_at = 0
        self._pages = Pages()
        self._sub_agent_id: str | None = None
        self._parent_call_id: str | None = None

    def of_sub_agent(self, agent: AgentRow, call_id: str) -> "Transcript":
        """The part of this transcript that a sub-agent writes, under the call that it works for."""
        part = Transcript(self.events, agent.name)
        part._pages = self._pages
        part._sub_agent_id, part._parent_call_id = agent.id, call_id
        return part

    @property
    def text(self) -> str:
        """Everything that the agent has said, across its tool calls."""
        return str(self._said)

    def speak(self, content: str) -> None:
        self._said.add(content)
        self._answer.add(content)
        self._tell("message_delta", {"content": content}, size=len(content))
        self._spoken_at = len(self.events)

    def think(self, content: str) -> None:
        self._thoughts.add(content)
        self._tell("thinking", {"content": content}, size=len(content))
        self._thought_at = len(self.events)

    def end_answer(self) -> str:
        """Keeps what one answer of the model held, as far as it came; its text."""
        thoughts, text = str(self._thoughts), str(self._answer)
        self._thoughts, self._answer = Pieces(), Pieces()
        if thoughts:
            self._keep("reasoning", {"content": thoughts}, event=self._thought_at)
        if text:
            self._keep("assistant_message", {"content": text}, event=self._spoken_at)
        self.last_answer = text
        return text

    def receive(self, task: str) -> None:
        """What a sub-agent is asked to do; a turn's own message is written when it opens."""
        self._keep("user_message", {"content": task})

    def called(self, call: Call) -> None:
        data = call_data(call.tool, call.call_id, call.arguments)
        self._tell("tool_call", data, size=len(call.written))
        self._keep(
            "tool_call",
            {"tool": call.tool, "arguments": call.arguments, "written": call.written},
            call.call_id,
        )

    def asked(self, session_id: str, call: Call) -> None:
        """A call that waits for the user's word."""
        data = confirmation_data(call, session_id, agent=self._agent, parent_call_id=self._parent_call_id)
        self.events.append("confirmation", data)
        self._keep("confirmation", data, call.call_id)

    def show(self, block: dict[str, Any], is_form: bool) -> None:
        """A block for the client to render; after a form it is the user's turn."""
        self.events.append("structured_output", block)
        self._keep("structured_output", block)
        self.asks_user = self.asks_user or is_form

    def returned(self, call: Call, text: str, *, has_error: bool, milliseconds: int) -> None:
        """A result, or a failure whose text says so; it is told in full."""
        result = result_data(call.tool, call.call_id, text, has_error=has_error)
        self._tell("tool_result", result, size=len(text))
        self._keep(
            "tool_result",
            {"tool": call.tool, "content": text, "is_error": has_error, "duration_ms": milliseconds},
            call.call_id,
        )
        self.uses.append({"tool": call.tool, "input": shown_input(call.arguments), "output": text})

    @property
    def writing(self) -> asyncio.Lock:
        """Held while entries are taken and written."""
        return self._pages.writing

    @property
    def has_unwritten(self) -> bool:
        return bool(self._pages.unwritten)

    def take_unwritten(self) -> list[Entry]:
        entries, self._pages.unwritten = self._pages.unwritten, []
        return entries

    def _tell(self, event: str, data: dict[str, Any], *, size: int) -> None:
        if self._sub_agent_id is None:
            self.events.append(event, data)
        else:
            self._pages.count_hidden(size)

    def _keep(
        self,
        event_type: str,
        payload: dict[str, Any],
        call_id: str | None = None,
        *,
        event: int | None = None,
    ) -> None:
        self._pages.sequence += 1
        self._pages.unwritten.append(
            Entry(
                sequence=self._pages.sequence,
                event_type=event_type,
                agent=self._agent,
                payload=payload,
                call_id=call_id,
                event=event or len(self.events),
                sub_agent_id=self._sub_agent_id,
                parent_call_id=self._parent_call_id,
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


def confirmation_data(
    call: Call, session_id: str, *, agent: str, parent_call_id: str | None
) -> dict[str, Any]:
    """`parent_call_id` is there when a sub-agent asks: the call of the turn that it works for."""
    data: dict[str, Any] = {
        "call_id": call.call_id,
        "tool": call.tool,
        "input": shown_input(call.arguments),
        "content": f"May {agent} call {call.tool} with {msgspec.json.encode(call.arguments).decode()}?",
        "session_id": session_id,
        "arguments": call.arguments,
        "agent": agent,
    }
    if parent_call_id is not None:
        data["parent_call_id"] = parent_call_id
    return data


def error_data(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "content": message}


def done_data(session_id: str, *, tokens: int, context_tokens: int) -> dict[str, Any]:
    """`tokens` and `total_tokens` are two words for what the turn and its sub-agents took in all."""
    return {
        "session_id": session_id,
        "tokens": tokens,
        "total_tokens": tokens,
        "context_tokens": context_tokens,
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
