"""An answer of the Gemini protocol, put together from the events in which it arrives."""

import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from weir.agent_engine.models.answer import (
    UNREADABLE,
    CallInPieces,
    no_stream,
    reported,
    unreadable,
    whole_calls,
)
from weir.agent_engine.models.base import (
    Finish,
    ModelGarbled,
    ModelRefused,
    Part,
    TextPart,
    ThinkingPart,
    ToolCall,
)
from weir.agent_engine.models.sse import EventReader
from weir.agent_engine.models.wire_names import with_real_names

_REASONS = {"STOP": "stop", "MAX_TOKENS": "length", "FINISH_REASON_UNSPECIFIED": "stop"}
_WITHHELD = frozenset(
    {
        "BLOCKLIST",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_SAFETY",
        "LANGUAGE",
        "PROHIBITED_CONTENT",
        "RECITATION",
        "SAFETY",
        "SPII",
    }
)
# The model tried to call a tool and wrote something that the provider could not read.
_MISWRITTEN = frozenset(
    {"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "TOO_MANY_TOOL_CALLS", "UNEXPECTED_TOOL_CALL"}
)


class FunctionCall(Struct, frozen=True):
    name: str | None = None
    id: str | None = None
    args: dict[str, Any] | None = None


class ContentPart(Struct, frozen=True, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    function_call: FunctionCall | None = None
    thought_signature: str | None = None


class Content(Struct, frozen=True):
    parts: list[ContentPart] | None = None


class Candidate(Struct, frozen=True, rename="camel"):
    content: Content | None = None
    finish_reason: str | None = None


class Feedback(Struct, frozen=True, rename="camel"):
    block_reason: str | None = None


class Usage(Struct, frozen=True, rename="camel"):
    prompt_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    cached_content_token_count: int | None = None


class Chunk(Struct, frozen=True, rename="camel"):
    candidates: list[Candidate] | None = None
    prompt_feedback: Feedback | None = None
    usage_metadata: Usage | None = None
    error: Any = None


_chunks = msgspec.json.Decoder(Chunk)


class AnswerInPieces:
    """Puts an answer together from its events."""

    def __init__(self, *, unsafe_names: dict[str, str] | None = None, key: str | None = None) -> None:
        self._events = EventReader()
        self._calls: list[CallInPieces] = []
        self._signatures: list[str | None] = []
        self._reason: str | None = None
        self._usage = Usage()
        self._unsafe_names = unsafe_names or {}
        self._key = key

    def read(self, content: bytes) -> Iterator[Part]:
        for event in self._events.feed(content):
            yield from self._take(event)

    def end(self) -> Iterator[Part]:
        for event in self._events.rest():
            yield from self._take(event)
        if self._reason is None:
            raise no_stream(self._events, self._key)
        if self._reason in _MISWRITTEN:
            raise ModelGarbled("The model asked for a tool in a way that its provider could not read")
        yield self._finish()

    def _finish(self) -> Finish:
        usage = self._usage
        thoughts = usage.thoughts_token_count or 0
        calls = whole_calls(self._calls)
        return Finish(
            reason=self._common_reason(calls),
            calls=with_real_names(calls, self._unsafe_names),
            input_tokens=(usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0),
            output_tokens=(usage.candidates_token_count or 0) + thoughts,
            cached_tokens=usage.cached_content_token_count or 0,
            reasoning_tokens=thoughts,
            echo=self._echo(calls),
        )

    def _common_reason(self, calls: tuple[ToolCall, ...]) -> str:
        """The protocol says STOP when the model waits for its tools too."""
        reason = self._reason or "stop"
        if reason in _WITHHELD:
            return "content_filter"
        if calls and reason == "STOP":
            return "tool_calls"
        return _REASONS.get(reason, reason.lower())

    def _echo(self, calls: tuple[ToolCall, ...]) -> dict[str, Any]:
        signed = {
            call.call_id: signature
            for call, signature in zip(calls, self._signatures, strict=True)
            if signature
        }
        return {"signatures": signed} if signed else {}

    def _take(self, event: bytes) -> Iterator[Part]:
        try:
            chunk = _chunks.decode(event)
        except UNREADABLE:
            raise unreadable() from None
        if chunk.error is not None:
            raise reported(chunk.error, self._key)
        if chunk.usage_metadata is not None:
            self._usage = chunk.usage_metadata
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason:
            raise ModelRefused("The model's provider withheld the answer")
        for candidate in (chunk.candidates or ())[:1]:
            self._reason = candidate.finish_reason or self._reason
            for part in (candidate.content and candidate.content.parts) or ():
                yield from self._add(part)

    def _add(self, part: ContentPart) -> Iterator[Part]:
        if part.text:
            yield ThinkingPart(part.text) if part.thought else TextPart(part.text)
        if part.function_call is not None:
            asked = part.function_call
            # The protocol may leave the id out; a call needs one here.
            call = CallInPieces(asked.id or f"call_{uuid.uuid4().hex}", asked.name)
            call.add(msgspec.json.encode(asked.args or {}).decode())
            self._calls.append(call)
            self._signatures.append(part.thought_signature)
