"""The chat-completions protocol of OpenAI, as eight of the ten types of models speak it."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import structlog

from weir.agent_engine.models.base import (
    ModelAccess,
    ModelError,
    ModelMissing,
    ModelRateLimited,
    ModelRefused,
    ModelTimedOut,
    ModelUnauthorized,
    ModelUnavailable,
    Part,
    Prompt,
)
from weir.agent_engine.models.openai_answer import AnswerInPieces
from weir.agent_engine.models.openai_request import request_body
from weir.agent_engine.models.providers import PROVIDERS, chat_url
from weir_shared.egress import ForbiddenAddress
from weir_shared.telemetry.logs import scrub

ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.4
# A provider that asks for a longer pause is not waited for; the caller is told instead.
LONGEST_PAUSE_SECONDS = 8.0
MAX_TOLD_BYTES = 4096

log = structlog.get_logger(__name__)


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
            answer = AnswerInPieces()
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
