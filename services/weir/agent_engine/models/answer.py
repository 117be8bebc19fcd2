"""What the answers of all protocols have in common: events that are cut anywhere, calls that come in pieces."""

import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec
import structlog

from weir.agent_engine.models.base import ModelError, ModelGarbled, ModelUnavailable, Part, ToolCall
from weir.agent_engine.models.refusals import error_in_stream, shown, told_in, told_of
from weir.agent_engine.models.sse import EventReader

# More calls than any model makes in a step; what comes after them is a fault of the model.
MAX_CALLS = 128

log = structlog.get_logger(__name__)

# Everything that a decoder says of text that is not what it should be.
UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


class Answer(Protocol):
    """An answer of one protocol, put together from its bytes."""

    def read(self, content: bytes) -> Iterator[Part]:
        """What these bytes complete. Raises ModelError."""
        ...

    def end(self) -> Iterator[Part]:
        """The rest, `Finish` last. Raises ModelError for an answer that is not whole."""
        ...


class CallInPieces:
    """A tool call as it arrives: its id and name once, its arguments in pieces."""

    def __init__(self, id: str | None = "", name: str | None = "") -> None:
        self.id = id or ""
        self._name = name or ""
        self._arguments: list[str] = []

    def add(self, arguments: str | None, id: str | None = None, name: str | None = None) -> None:
        self.id = self.id or id or ""
        self._name = self._name or name or ""
        if arguments:
            self._arguments.append(arguments)

    def whole(self) -> ToolCall:
        # Ids and names become columns, which hold no NUL.
        call_id = self.id.replace("\0", "") or f"call_{uuid.uuid4().hex}"
        return ToolCall(call_id, self._name.replace("\0", ""), "".join(self._arguments))


def whole_calls(calls: Sequence[CallInPieces]) -> tuple[ToolCall, ...]:
    """The calls in their order, each with an id of its own: some servers give several the same, which none means."""
    found: list[ToolCall] = []
    seen: set[str] = set()
    for pieces in calls:
        call = pieces.whole()
        if call.call_id in seen:
            call = ToolCall(f"call_{uuid.uuid4().hex}", call.name, call.arguments)
        seen.add(call.call_id)
        found.append(call)
    if len(found) > MAX_CALLS:
        raise ModelGarbled("The model asked for more tool calls than anybody could mean")
    return tuple(found)


def unreadable() -> ModelGarbled:
    return ModelGarbled("The model sent an answer that its protocol does not know")


def broken_off() -> ModelUnavailable:
    return ModelUnavailable("The model broke off in the middle of its answer")


def reported(error: Any, key: str | None) -> ModelError:
    """What a provider reports within its answer."""
    told = told_of({"error": error})
    log.warning("model failed in its answer", names=told.names, said=shown(told.message, key))
    return error_in_stream(told, key)


def no_stream(events: EventReader, key: str | None) -> ModelError:
    """What an answer was that ended too early: cut off, an error without its status, or something else altogether."""
    if events.heard or not events.stray:
        return broken_off()
    told = told_in(events.stray)
    log.warning("model sent no stream", said=shown(events.stray.decode("utf-8", "replace"), key))
    if told.message or told.names:
        return error_in_stream(told, key)
    return ModelGarbled("The model answered with something else than a stream of events")
