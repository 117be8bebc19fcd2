"""One question to a provider over HTTP: patience before the first byte, limits after it, and no word of the key."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import aiohttp
import msgspec
import structlog
from msgspec import Struct
from yarl import URL

from weir.agent_engine.metrics import LLM_RETRIES
from weir.agent_engine.models.base import (
    ModelAccess,
    ModelError,
    ModelGarbled,
    ModelRateLimited,
    ModelRefused,
    ModelTimedOut,
    ModelUnavailable,
)
from weir.agent_engine.models.breath import Breath
from weir.agent_engine.models.refusals import error_of, pause_of, shown, told_in
from weir_shared.egress import ForbiddenAddress

# The first pause before another try doubles with each; a limit on requests takes longer to pass than a fault.
FAULT_TRIES, FAULT_PAUSE_SECONDS = 3, 0.4
LIMIT_TRIES, LIMIT_PAUSE_SECONDS = 4, 1.0
# A provider that asks for a longer pause is not waited for; the caller is told instead.
LONGEST_PAUSE_SECONDS = 60.0
CONNECT_SECONDS = 10
# For the answer's beginning and between two pieces of it; models that think say nothing for long.
SILENCE_SECONDS = 180.0
MAX_TOLD_BYTES = 16 * 1024
TOLD_SECONDS = 5
# Far more than any model writes; a stream that goes on has no end.
MAX_ANSWER_BYTES = 64 * 1024 * 1024

log = structlog.get_logger(__name__)


class Question(Struct, frozen=True):
    """Where to ask, with which headers (they hold the key) and which body."""

    url: str
    headers: Mapping[str, str]
    body: bytes


def question(url: str, body: object, accept: str = "text/event-stream", /, **secrets: str | None) -> Question:
    """A question, whose answer is a stream of events unless another form is accepted.

    `secrets` are the headers that hold the key, if there is one.
    """
    named = {name.replace("_", "-"): value for name, value in secrets.items() if value}
    return Question(url, _HEADERS | {"accept": accept} | named, msgspec.json.encode(body))


_HEADERS = {
    "content-type": "application/json",
    # A compressed stream comes in blocks, not in tokens.
    "accept-encoding": "identity",
}


class Asker:
    """Asks over one shared HTTP session, which checks every address that it connects to."""

    def __init__(self, session: aiohttp.ClientSession, *, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._session = session
        self._breath = Breath()
        self._limits = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=silence_seconds
        )

    async def read(self, access: ModelAccess, question: Question) -> AsyncGenerator[bytes]:
        """The answer's bytes as they arrive. Raises ModelError.

        Cancelling the caller, or closing the iterator, closes the connection to the provider.
        """
        size = 0
        async with self._answer(access, question) as response:
            ended = asyncio.get_running_loop().create_future()
            response.content.on_eof(partial(ended.set_result, None))
            try:
                with self._breath.stream():
                    async for content in response.content.iter_any():
                        size += len(content)
                        if size > MAX_ANSWER_BYTES:
                            raise ModelGarbled("The model sent an answer that has no end")
                        yield content
                        rest = self._breath.seconds
                        if rest and not ended.done():
                            await asyncio.wait([ended], timeout=rest)
            except BROKEN as fault:
                raise _failure(fault) from None

    @asynccontextmanager
    async def _answer(
        self, access: ModelAccess, question: Question
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        response = await self._ask_patiently(access, question)
        try:
            yield response
        finally:
            # An answer that was read to its end has given its connection back already; any other is cut.
            response.close()

    async def _ask_patiently(self, access: ModelAccess, question: Question) -> aiohttp.ClientResponse:
        """The first answer that is no passing fault: nothing was read of it, so nothing is said twice."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._ask(access, question)
            except _Passing as passing:
                error, pause = passing.error, passing.pause
            limited = isinstance(error, ModelRateLimited)
            if pause is None:
                first = LIMIT_PAUSE_SECONDS if limited else FAULT_PAUSE_SECONDS
                pause = first * 2 ** (attempt - 1) * random.uniform(0.8, 1.2)  # noqa: S311
            if attempt == (LIMIT_TRIES if limited else FAULT_TRIES) or pause > _patience(access):
                raise error
            LLM_RETRIES.labels(access.type, error.code).inc()
            await asyncio.sleep(pause)

    async def _ask(self, access: ModelAccess, question: Question) -> aiohttp.ClientResponse:
        """The answer, if its status is 200. Raises _Passing for what may pass, and ModelError for the rest."""
        try:
            response = await self._session.post(
                # Encoded already: a second reading would change what was quoted.
                URL(question.url, encoded=True),
                data=question.body,
                headers=question.headers,
                timeout=self._limits,
                allow_redirects=False,
            )
        except ForbiddenAddress as fault:
            raise ModelRefused(str(fault)) from None
        except (aiohttp.InvalidURL, ValueError):
            raise ModelRefused("The model's address is not well formed") from None
        except BROKEN as fault:
            error = _failure(fault)
            # A model that was silent for so long has been waited for long enough.
            raise (error if isinstance(error, ModelTimedOut) else _Passing(error)) from None
        if response.status == 200:
            return response
        error, pause = await _refusal(response, access)
        if isinstance(error, ModelRateLimited | ModelUnavailable):
            raise _Passing(error, pause)
        raise error


class _Passing(Exception):
    """A failure that another try may not meet; `pause` is what the provider asks for, in seconds."""

    def __init__(self, error: ModelError, pause: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.pause = pause


def _patience(access: ModelAccess) -> float:
    """The longest pause that is worth making: what is left of the turn, and never long."""
    if access.deadline is None:
        return LONGEST_PAUSE_SECONDS
    return min(LONGEST_PAUSE_SECONDS, access.deadline - time.monotonic())


BROKEN = (aiohttp.ClientError, asyncio.TimeoutError, OSError)


def _failure(fault: BaseException) -> ModelError:
    if isinstance(fault, aiohttp.ConnectionTimeoutError):
        return ModelUnavailable("The model's provider cannot be reached")
    if isinstance(fault, asyncio.TimeoutError):
        return ModelTimedOut("The model did not answer in time")
    if isinstance(fault, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return ModelUnavailable("The model broke off in the middle of its answer")
    if isinstance(fault, aiohttp.ClientResponseError):
        return ModelGarbled("The model's address does not answer as a web server does")
    return ModelUnavailable("The model's provider cannot be reached")


async def _refusal(response: aiohttp.ClientResponse, access: ModelAccess) -> tuple[ModelError, float | None]:
    """What a status other than 200 means, and the pause that the provider asks for."""
    body = await _told(response)
    told = told_in(body)
    said = shown(body.decode("utf-8", "replace"), access.api_key)
    log.warning("model refused", provider=access.type, status=response.status, said=said)
    status = response.status if response.status >= 300 else 300
    return error_of(status, told, access.api_key), pause_of(response.headers, told)


async def _told(response: aiohttp.ClientResponse) -> bytes:
    """What came of the body in a moment: nobody waits long for the words of a refusal."""
    body = b""
    try:
        async with asyncio.timeout(TOLD_SECONDS):
            while len(body) < MAX_TOLD_BYTES and (content := await response.content.readany()):
                body += content
    except BROKEN as fault:
        log.debug("refusal cut short", fault=type(fault).__name__)
    finally:
        response.close()
    return body[:MAX_TOLD_BYTES]
