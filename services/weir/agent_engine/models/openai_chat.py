"""The chat-completions protocol of OpenAI, as eight of the ten types of models speak it."""

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import structlog
from msgspec import Struct

from weir.agent_engine.models.base import (
    AssistantMessage,
    Finish,
    Message,
    ModelAccess,
    ModelError,
    ModelGarbled,
    ModelMissing,
    ModelRateLimited,
    ModelRefused,
    ModelTimedOut,
    ModelUnauthorized,
    ModelUnavailable,
    Part,
    Prompt,
    ThinkingPart,
    ToolCall,
    ToolDefinition,
    ToolMessage,
    UserMessage,
)
from weir.agent_engine.models.providers import PROVIDERS, chat_url
from weir.agent_engine.models.sse import EventReader, EventTooLong
from weir.agent_engine.models.thinking import ThinkingSplitter
from weir_shared.egress import ForbiddenAddress
from weir_shared.telemetry.logs import scrub

ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.4
# A provider that asks for a longer pause is not waited for; the caller is told instead.
LONGEST_PAUSE_SECONDS = 8.0
MAX_TOLD_BYTES = 4096

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


class OpenAIChat:
    """Asks for a streamed completion over one shared HTTP session."""

    def __init__(self, session: aiohttp.ClientSession, *, silence_seconds: float = 90) -> None:
        self._session = session
        self._limits = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=silence_seconds)

    async def stream(self, access: ModelAccess, prompt: Prompt) -> AsyncGenerator[Part, None]:
        """The parts of the answer as they arrive, `Finish` last. Raises ModelError.

        Cancelling the caller, or closing the iterator, closes the connection to the provider.
        """
        url = chat_url(access.type, access.base_url)
        body = msgspec.json.encode(request_body(access, prompt))
        async with self._answer(url, access, body) as response:
            answer = _Answer()
            try:
                async for content in response.content.iter_any():
                    for part in answer.read(content):
                        yield part
            except _BROKEN as fault:
                raise _failure(fault) from None
            for part in answer.end():
                yield part

    @asynccontextmanager
    async def _answer(
        self, url: str, access: ModelAccess, body: bytes
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        response = await self._ask_patiently(url, _headers(access), body)
        try:
            yield response
        finally:
            # An answer that was read to its end has given its connection back already; any other is cut.
            response.close()

    async def _ask_patiently(self, url: str, headers: dict[str, str], body: bytes) -> aiohttp.ClientResponse:
        """The first answer that is no passing fault: nothing was read of it, so nothing is said twice."""
        for attempt in range(ATTEMPTS):
            pause = FIRST_PAUSE_SECONDS * 2**attempt * random.uniform(0.8, 1.2)  # noqa: S311
            try:
                response = await self._session.post(
                    url, data=body, headers=headers, timeout=self._limits, allow_redirects=False
                )
                if response.status == 200:
                    return response
                error, asked_pause = await _refusal(response)
                pause = max(pause, asked_pause)
            except _BROKEN as fault:
                error = _failure(fault)
            except ForbiddenAddress as fault:
                raise ModelRefused(str(fault)) from None
            passing = isinstance(error, ModelRateLimited | ModelUnavailable)
            if not passing or attempt + 1 == ATTEMPTS or pause > LONGEST_PAUSE_SECONDS:
                raise error
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")


class _Answer:
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
            log.warning("model failed in its answer", said=str(chunk.error)[:MAX_TOLD_BYTES])
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


def request_body(access: ModelAccess, prompt: Prompt) -> dict[str, Any]:
    """The request as the protocol writes it; what an agent leaves open is left out."""
    sampling = prompt.sampling
    wanted = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop) or None,
        "tools": [_tool(tool) for tool in prompt.tools] or None,
    }
    opening = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return {
        "model": access.model_name,
        "messages": [*opening, *(_message(message) for message in prompt.messages)],
        "stream": True,
        "stream_options": {"include_usage": True},
    } | {key: value for key, value in wanted.items() if value is not None}


def _message(message: Message) -> dict[str, Any]:
    match message:
        case UserMessage():
            return {"role": "user", "content": message.content}
        case ToolMessage():
            return {"role": "tool", "tool_call_id": message.call_id, "content": message.content}
        case AssistantMessage(calls=()):
            return {"role": "assistant", "content": message.content}
        case AssistantMessage():
            calls = [_call(call) for call in message.calls]
            return {"role": "assistant", "content": message.content or None, "tool_calls": calls}


def _call(call: ToolCall) -> dict[str, Any]:
    # Providers refuse a conversation with arguments that are no JSON; the result says what was wrong with them.
    function = {"name": call.name, "arguments": call.arguments if _is_object(call.arguments) else "{}"}
    return {"id": call.call_id, "type": "function", "function": function}


def _is_object(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _tool(tool: ToolDefinition) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _headers(access: ModelAccess) -> dict[str, str]:
    headers = {"content-type": "application/json", "accept": "text/event-stream"}
    key = access.api_key or PROVIDERS[access.type].key
    return headers | ({"authorization": f"Bearer {key}"} if key else {})


_BROKEN = (aiohttp.ClientError, asyncio.TimeoutError, OSError)


def _failure(fault: BaseException) -> ModelError:
    if isinstance(fault, asyncio.TimeoutError):
        return ModelTimedOut("The model did not answer in time")
    if isinstance(fault, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return ModelUnavailable("The model broke off in the middle of its answer")
    if isinstance(fault, aiohttp.InvalidURL):
        return ModelRefused("The model's address is not well formed")
    return ModelUnavailable("The model's provider cannot be reached")


async def _refusal(response: aiohttp.ClientResponse) -> tuple[ModelError, float]:
    """What a status other than 200 means, and the pause that the provider asks for in seconds."""
    status = response.status
    try:
        told = await response.content.read(MAX_TOLD_BYTES)
    except _BROKEN:
        told = b""
    response.close()
    log.warning("model refused", status=status, said=scrub(told.decode("utf-8", "replace")))
    try:
        pause = float(response.headers.get("retry-after", 0))
    except ValueError:
        pause = 0.0
    return _error_of(status), pause


def _error_of(status: int) -> ModelError:  # noqa: PLR0911
    match status:
        case 401 | 403:
            return ModelUnauthorized("The model's provider refused the API key")
        case 404:
            return ModelMissing("The model's provider does not know this model, or nothing is at its address")
        case 408 | 504:
            return ModelUnavailable("The model's provider did not answer in time")
        case 429:
            return ModelRateLimited("The model's provider limits how often it may be asked; try again later")
        case 200 | 300 | 301 | 302 | 303 | 307 | 308:
            return ModelRefused("The model's address leads elsewhere; enter the address it leads to")
        case _ if status < 500:
            return ModelRefused(f"The model's provider refused the request (status {status})")
        case _:
            return ModelUnavailable(f"The model's provider failed (status {status})")
