"""An answer of the chat-completions protocol, put together from the events in which it arrives."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from weir.agent_engine.models.answer import (
    UNREADABLE,
    CallInPieces,
    broken_off,
    no_stream,
    reported,
    unreadable,
    whole_calls,
)
from weir.agent_engine.models.base import Finish, Part, TextPart, ThinkingPart
from weir.agent_engine.models.providers import Echo
from weir.agent_engine.models.sse import EventReader
from weir.agent_engine.models.thinking import ThinkingSplitter
from weir.agent_engine.models.wire_names import with_real_names

# What the providers of this protocol call the ends that have other names elsewhere.
_REASONS = {
    "function_call": "tool_calls",
    "model_context_window_exceeded": "length",
    "model_length": "length",
    "sensitive": "content_filter",
}
_FAILED = frozenset({"error", "insufficient_system_resource", "network_error"})


class FunctionPiece(Struct, frozen=True):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class CallPiece(Struct, frozen=True):
    index: int | None = None
    id: str | None = None
    function: FunctionPiece | None = None


class ContentPiece(Struct, frozen=True):
    """Mistral's models that reason send their content in typed pieces."""

    type: str = ""
    text: str | None = None
    thinking: "list[ContentPiece] | None" = None


class Delta(Struct, frozen=True):
    content: str | list[ContentPiece] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    tool_calls: list[CallPiece] | None = None


class Choice(Struct, frozen=True):
    delta: Delta | None = None
    finish_reason: str | None = None
    error: Any = None


class PromptDetails(Struct, frozen=True):
    cached_tokens: int | None = None


class AnswerDetails(Struct, frozen=True):
    reasoning_tokens: int | None = None


class Usage(Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_cache_hit_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: AnswerDetails | None = None


class Chunk(Struct, frozen=True):
    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None


_chunks = msgspec.json.Decoder(Chunk)


class AnswerInPieces:
    """Puts an answer together from its events."""

    def __init__(
        self, *, unsafe_names: dict[str, str] | None = None, echo: Echo | None = None, key: str | None = None
    ) -> None:
        self._events = EventReader()
        self._thinking = ThinkingSplitter()
        self._calls: list[CallInPieces] = []
        self._at: dict[int, CallInPieces] = {}
        self._reason: str | None = None
        self._usage = Usage()
        self._done = False
        self._unsafe_names = unsafe_names or {}
        self._echo_field = echo
        self._reasoning: list[str] = []
        self._details: list[dict[str, Any]] = []
        self._key = key

    def read(self, content: bytes) -> Iterator[Part]:
        for event in self._events.feed(content):
            yield from self._take(event)

    def end(self) -> Iterator[Part]:
        for event in self._events.rest():
            yield from self._take(event)
        yield from self._thinking.finish()
        if self._reason is None and not self._done:
            raise no_stream(self._events, self._key)
        if self._reason in _FAILED:
            raise broken_off()
        yield self._finish()

    def _finish(self) -> Finish:
        usage = self._usage
        prompt, answer = usage.prompt_tokens_details, usage.completion_tokens_details
        reason = self._reason or "stop"
        return Finish(
            reason=_REASONS.get(reason, reason),
            calls=with_real_names(whole_calls(self._calls), self._unsafe_names),
            input_tokens=usage.prompt_tokens or 0,
            output_tokens=usage.completion_tokens or 0,
            cached_tokens=(prompt and prompt.cached_tokens) or usage.prompt_cache_hit_tokens or 0,
            reasoning_tokens=(answer and answer.reasoning_tokens) or 0,
            echo=self._echo() if self._calls else {},
        )

    def _take(self, event: bytes) -> Iterator[Part]:
        if event == b"[DONE]":
            self._done = True
            return
        try:
            chunk = _chunks.decode(event)
        except UNREADABLE:
            raise unreadable() from None
        if chunk.error is not None:
            raise reported(chunk.error, self._key)
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in (chunk.choices or ())[:1]:
            if choice.error is not None:
                raise reported(choice.error, self._key)
            self._reason = choice.finish_reason or self._reason
            if choice.delta is not None:
                yield from self._add(choice.delta)

    def _add(self, delta: Delta) -> Iterator[Part]:
        if thought := delta.reasoning_content or delta.reasoning:
            if self._echo_field == "reasoning_content":
                self._reasoning.append(thought)
            yield ThinkingPart(thought)
        if delta.reasoning_details and self._echo_field == "reasoning_details":
            self._details += delta.reasoning_details
        if content := delta.content:
            if isinstance(content, str):
                yield from self._thinking.feed(content)
            else:
                yield from _parts(content)
        if delta.refusal:
            yield TextPart(delta.refusal)
        for piece in delta.tool_calls or ():
            self._add_call(piece)

    def _add_call(self, piece: CallPiece) -> None:
        function = piece.function or FunctionPiece()
        arguments = function.arguments
        if isinstance(arguments, dict):
            arguments = msgspec.json.encode(arguments).decode()
        self._call_of(piece, function).add(arguments, piece.id, function.name)

    def _call_of(self, piece: CallPiece, function: FunctionPiece) -> CallInPieces:
        """The call that a piece belongs to.

        Some servers leave the index out, and some give every call of a step the same one: there a name with
        an id of its own begins another call.
        """
        if piece.index is None:
            known = self._calls[-1] if self._calls and not function.name else None
        else:
            known = self._at.get(piece.index)
            if known is not None and function.name and piece.id and known.id not in ("", piece.id):
                known = None
        if known is None:
            known = CallInPieces()
            self._calls.append(known)
        if piece.index is not None:
            self._at[piece.index] = known
        return known

    def _echo(self) -> dict[str, Any]:
        if self._details:
            return {"reasoning_details": _joined(self._details)}
        if self._reasoning:
            return {"reasoning_content": "".join(self._reasoning)}
        return {}


def _parts(pieces: list[ContentPiece]) -> Iterator[Part]:
    for piece in pieces:
        if piece.type == "thinking":
            if thought := "".join(inner.text or "" for inner in piece.thinking or ()):
                yield ThinkingPart(thought)
        elif piece.text:
            yield TextPart(piece.text)


def _joined(details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reasoning that came in pieces, as the whole that it was: pieces of text after each other are one."""
    whole: list[dict[str, Any]] = []
    for detail in details:
        last = whole[-1] if whole else {}
        same = detail.get("type") == "reasoning.text" == last.get("type") and (
            detail.get("index") == last.get("index") and not last.get("signature")
        )
        if same:
            text = f"{last.get('text') or ''}{detail.get('text') or ''}"
            whole[-1] = (
                last | {key: value for key, value in detail.items() if value is not None} | {"text": text}
            )
        else:
            whole.append(detail)
    return whole
