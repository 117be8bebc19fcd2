"""An answer of Anthropic's Messages protocol, put together from the events in which it arrives."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from weir.agent_engine.models.answer import (
    UNREADABLE,
    CallInPieces,
    no_stream,
    reported,
    unreadable,
    whole_calls,
)
from weir.agent_engine.models.base import Finish, Part, TextPart, ThinkingPart
from weir.agent_engine.models.sse import EventReader
from weir.agent_engine.models.wire_names import with_real_names

_REASONS = {
    "end_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "stop",
    "refusal": "content_filter",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
}


class OutputDetails(Struct, frozen=True):
    thinking_tokens: int | None = None


class Usage(Struct, frozen=True):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None


class Opening(Struct, frozen=True):
    usage: Usage | None = None


class Block(Struct, frozen=True):
    type: str = ""
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    input: Any = None


class Delta(Struct, frozen=True):
    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: str | None = None


class Event(Struct, frozen=True):
    type: str = ""
    index: int = 0
    message: Opening | None = None
    content_block: Block | None = None
    delta: Delta | None = None
    usage: Usage | None = None
    error: Any = None


_events = msgspec.json.Decoder(Event)


class AnswerInPieces:
    """Puts an answer together from its events."""

    def __init__(self, *, unsafe_names: dict[str, str] | None = None, key: str | None = None) -> None:
        self._events = EventReader()
        self._calls: dict[int, CallInPieces] = {}
        self._given: dict[int, Any] = {}
        self._thoughts: dict[int, _Thought] = {}
        self._reason: str | None = None
        self._usage = Usage()
        self._ended = False
        self._unsafe_names = unsafe_names or {}
        self._key = key

    def read(self, content: bytes) -> Iterator[Part]:
        for event in self._events.feed(content):
            yield from self._take(event)

    def end(self) -> Iterator[Part]:
        for event in self._events.rest():
            yield from self._take(event)
        if self._reason is None and not self._ended:
            raise no_stream(self._events, self._key)
        yield self._finish()

    def _finish(self) -> Finish:
        usage, details = self._usage, self._usage.output_tokens_details
        cached = usage.cache_read_input_tokens or 0
        reason = self._reason or "stop"
        calls = whole_calls([self._calls[index] for index in sorted(self._calls)])
        return Finish(
            reason=_REASONS.get(reason, reason),
            calls=with_real_names(calls, self._unsafe_names),
            # What the provider counts as input is only what its cache did not hold.
            input_tokens=(usage.input_tokens or 0) + (usage.cache_creation_input_tokens or 0) + cached,
            output_tokens=usage.output_tokens or 0,
            cached_tokens=cached,
            reasoning_tokens=(details and details.thinking_tokens) or 0,
            echo=self._echo() if calls else {},
        )

    def _echo(self) -> dict[str, Any]:
        thoughts = [self._thoughts[index].whole() for index in sorted(self._thoughts)]
        return {"thinking": thoughts} if thoughts else {}

    def _take(self, content: bytes) -> Iterator[Part]:
        try:
            event = _events.decode(content)
        except UNREADABLE:
            raise unreadable() from None
        if event.error is not None or event.type == "error":
            raise reported(event.error, self._key)
        match event.type:
            case "content_block_delta" if event.delta is not None:
                yield from self._add(event.index, event.delta)
            case "content_block_start" if event.content_block is not None:
                yield from self._begin(event.index, event.content_block)
            case "content_block_stop":
                self._complete(event.index)
            case "message_start" if event.message is not None:
                self._count(event.message.usage)
            case "message_delta":
                self._count(event.usage)
                if event.delta is not None:
                    self._reason = event.delta.stop_reason or self._reason
            case "message_stop":
                self._ended = True
            case _:
                # Pings, and what the protocol may add.
                return

    def _begin(self, index: int, block: Block) -> Iterator[Part]:
        match block.type:
            case "tool_use":
                self._calls[index] = CallInPieces(block.id, block.name)
                self._given[index] = block.input
            case "thinking":
                thought = self._thoughts[index] = _Thought()
                thought.add(block.thinking, block.signature)
                if block.thinking:
                    yield ThinkingPart(block.thinking)
            case "redacted_thinking":
                self._thoughts[index] = _Thought(block.data or "")
            case _:
                if block.text:
                    yield TextPart(block.text)

    def _add(self, index: int, delta: Delta) -> Iterator[Part]:
        if delta.text:
            yield TextPart(delta.text)
        elif delta.partial_json and index in self._calls:
            self._calls[index].add(delta.partial_json)
            self._given.pop(index, None)
        elif index in self._thoughts:
            self._thoughts[index].add(delta.thinking, delta.signature)
            if delta.thinking:
                yield ThinkingPart(delta.thinking)

    def _complete(self, index: int) -> None:
        """Some servers give the input with the block, and no pieces of it after."""
        given = self._given.pop(index, None)
        if given:
            self._calls[index].add(msgspec.json.encode(given).decode())

    def _count(self, usage: Usage | None) -> None:
        """Later counts are whole, not additions; what they leave out stays."""
        if usage is None:
            return
        told = {name: count for name, count in asdict(usage).items() if count is not None}
        self._usage = replace(self._usage, **told)


class _Thought:
    """A block of reasoning as it goes back to the provider, signed or sealed."""

    def __init__(self, sealed: str | None = None) -> None:
        self._sealed = sealed
        self._text: list[str] = []
        self._signature: list[str] = []

    def add(self, text: str | None, signature: str | None) -> None:
        if text:
            self._text.append(text)
        if signature:
            self._signature.append(signature)

    def whole(self) -> dict[str, Any]:
        if self._sealed is not None:
            return {"type": "redacted_thinking", "data": self._sealed}
        text, signature = "".join(self._text), "".join(self._signature)
        return {"type": "thinking", "thinking": text, "signature": signature}
