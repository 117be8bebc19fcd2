"""An answer of the chat-completions protocol, put together from the events in which it arrives."""

import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from weir.agent_engine.models.base import (
    Finish,
    ModelGarbled,
    ModelUnavailable,
    Part,
    ThinkingPart,
    ToolCall,
)
from weir.agent_engine.models.sse import EventReader, EventTooLong
from weir.agent_engine.models.thinking import ThinkingSplitter
from weir_shared.telemetry.logs import scrub

MAX_TOLD_CHARACTERS = 4096

log = structlog.get_logger(__name__)


class FunctionPiece(Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class CallPiece(Struct, frozen=True):
    index: int | None = None
    id: str | None = None
    function: FunctionPiece | None = None


class Delta(Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[CallPiece] | None = None


class Choice(Struct, frozen=True):
    delta: Delta | None = None
    finish_reason: str | None = None


class Usage(Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Chunk(Struct, frozen=True):
    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None


_chunks = msgspec.json.Decoder(Chunk)


class AnswerInPieces:
    """Puts an answer together from its events."""

    def __init__(self) -> None:
        self._events = EventReader()
        self._thinking = ThinkingSplitter()
        self._calls: dict[int, _CallInPieces] = {}
        self._reason: str | None = None
        self._usage = Usage()
        self._done = False

    def read(self, content: bytes) -> Iterator[Part]:
        try:
            for event in self._events.feed(content):
                yield from self._take(event)
        except EventTooLong:
            raise ModelGarbled("The model sent an answer that has no end") from None

    def end(self) -> Iterator[Part]:
        for event in self._events.rest():
            yield from self._take(event)
        yield from self._thinking.finish()
        if self._reason is None and not self._done:
            raise ModelUnavailable("The model broke off in the middle of its answer")
        yield Finish(
            reason=self._reason or "stop",
            calls=tuple(self._calls[index].whole() for index in sorted(self._calls)),
            input_tokens=self._usage.prompt_tokens or 0,
            output_tokens=self._usage.completion_tokens or 0,
        )

    def _take(self, event: bytes) -> Iterator[Part]:
        if event == b"[DONE]":
            self._done = True
            return
        try:
            chunk = _chunks.decode(event)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            raise ModelGarbled("The model sent an answer that its protocol does not know") from None
        if chunk.error is not None:
            log.warning("model failed in its answer", said=scrub(str(chunk.error)[:MAX_TOLD_CHARACTERS]))
            raise ModelUnavailable("The model's provider reported an error in the middle of its answer")
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in (chunk.choices or ())[:1]:
            self._reason = choice.finish_reason or self._reason
            if choice.delta is not None:
                yield from self._add(choice.delta)

    def _add(self, delta: Delta) -> Iterator[Part]:
        if thought := delta.reasoning_content or delta.reasoning:
            yield ThinkingPart(thought)
        if delta.content:
            yield from self._thinking.feed(delta.content)
        for piece in delta.tool_calls or ():
            # Some servers leave the index out and send each call whole.
            index = len(self._calls) if piece.index is None else piece.index
            self._calls.setdefault(index, _CallInPieces()).add(piece)


class _CallInPieces:
    """A tool call as it arrives: its id and name once, its arguments in pieces."""

    def __init__(self) -> None:
        self._id = ""
        self._name = ""
        self._arguments: list[str] = []

    def add(self, piece: CallPiece) -> None:
        self._id = self._id or piece.id or ""
        if piece.function is not None:
            self._name = self._name or piece.function.name or ""
            if piece.function.arguments:
                self._arguments.append(piece.function.arguments)

    def whole(self) -> ToolCall:
        # Ids and names become columns, which hold no NUL.
        call_id = self._id.replace("\0", "") or f"call_{uuid.uuid4().hex}"
        return ToolCall(call_id, self._name.replace("\0", ""), "".join(self._arguments))
