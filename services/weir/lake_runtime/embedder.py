"""Texts as vectors for the runtime's statements and loads: asked of the desk, and remembered for a minute.

The runtime has no key and no model of its own: the desk, which knows the tenant by the runtime's secret, asks the
tenant's model. A vector is kept as the bytes of its float32 numbers.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager

import aiohttp
import msgspec
from msgspec import Struct

from weir.lake_runtime.faults import EmbeddingFailed
from weir.lake_runtime.settings import MEBIBYTE, RuntimeSettings

MAX_TEXT_CHARACTERS = 28_000
REQUEST_TEXTS = 384
# As JSON a text may be six times as long, and the desk reads a mebibyte.
REQUEST_BYTES = 160 * 1024
AT_ONCE = 4
# Above the desk's and the engine's own budgets, which say why.
SECONDS = 80.0
KEPT_BYTES = 32 * MEBIBYTE
# A model that its tenant changes is asked anew after this.
KEPT_SECONDS = 60.0
DIMENSION_HEADER = "x-weir-dimension"
_LOOK_SECONDS = 0.05
_OVERHEAD_BYTES = 200
FLOAT32_BYTES = 4

Vectors = dict[tuple[str, str], bytes]


class Desk(Struct, frozen=True):
    """Where the runtime has texts embedded, and as whom it asks."""

    url: str
    headers: dict[str, str]


class VectorCache:
    """The vectors of lately embedded texts, by model and text; used by many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()
        self._size = 0

    def find(self, model: str, texts: Iterable[str]) -> Vectors:
        """Those that are known."""
        since = self._clock() - KEPT_SECONDS
        with self._lock:
            known = {(model, text): self._kept.get((model, text)) for text in texts}
        return {key: kept[1] for key, kept in known.items() if kept is not None and kept[0] >= since}

    def keep(self, vectors: Mapping[tuple[str, str], bytes]) -> None:
        now = self._clock()
        with self._lock:
            for key, vector in vectors.items():
                if key in self._kept:
                    self._drop(key)
                self._kept[key] = (now, vector)
                self._size += _weight(key, vector)
            while self._size > KEPT_BYTES:
                self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._size = 0

    def _drop(self, key: tuple[str, str]) -> None:
        self._size -= _weight(key, self._kept.pop(key)[1])


class Embedder:
    """The runtime's one way to a model that embeds."""

    def __init__(self) -> None:
        self.cache = VectorCache()
        self._desk: Desk | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None
        self._places: asyncio.Semaphore | None = None
        self._held: dict[object, float] = {}
        self._asking: dict[tuple[str, str], asyncio.Future[None]] = {}
        """Done when the text's vector is known, or nobody asks for it any more."""

    def reach(self, url: str, settings: RuntimeSettings) -> None:
        """Ask there from now on; called in the event loop that does the asking."""
        headers = {
            "x-weir-tenant": settings.tenant,
            "x-weir-epoch": str(settings.epoch),
            "x-weir-runtime-secret": settings.secret,
            "content-type": "application/json",
        }
        self._desk = Desk(url, headers) if url else None
        self._loop = asyncio.get_running_loop()

    @contextmanager
    def held(self, deadline: float) -> Generator[None]:
        """For as long as a statement runs: what it has embedded in the engine's threads ends with it."""
        key = object()
        self._held[key] = deadline
        try:
            yield
        finally:
            del self._held[key]

    async def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """The vectors of the texts by model and text; an empty model is the tenant's default one.

        Raises EmbeddingFailed. Nothing is asked for that is known.
        """
        found = self.cache.find(model, texts)
        while missing := list(dict.fromkeys(text for text in texts if (model, text) not in found)):
            others = {self._asking[model, text] for text in missing if (model, text) in self._asking}
            if own := [text for text in missing if (model, text) not in self._asking]:
                found |= await self._ask_all(model, own)
            # Parts of one statement want the same texts at the same time. Where another one's asking fails, the
            # next turn of this loop asks.
            for other in others:
                await asyncio.wait({other})
            found |= self.cache.find(model, missing)
        return found

    def embed_now(self, model: str, texts: Sequence[str]) -> Vectors:
        """`embed` for the engine's own threads: blocks until it is done.

        Ends early when every statement that ran when it began has ended or passed its deadline.
        """
        loop = self._loop
        if loop is None or self._desk is None:
            raise _unreachable()
        asked_by = list(self._held)
        future = asyncio.run_coroutine_threadsafe(self.embed(model, texts), loop)
        while True:
            try:
                return future.result(_LOOK_SECONDS)
            except TimeoutError:
                if future.done():
                    continue
                if asked_by and not any(self._held.get(key, 0.0) > time.monotonic() for key in asked_by):
                    future.cancel()
                    raise EmbeddingFailed("The statement ended before its texts were embedded.") from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask_all(self, model: str, texts: list[str]) -> Vectors:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asking |= {(model, text): done for text in texts}
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._ask(model, batch)) for batch in _requests_of(texts)]
            found = {key: vector for task in tasks for key, vector in task.result().items()}
            self.cache.keep(found)
        except BaseExceptionGroup as faults:
            raise faults.exceptions[0] from None
        finally:
            for text in texts:
                del self._asking[model, text]
            done.set_result(None)
        return found

    async def _ask(self, model: str, texts: list[str]) -> Vectors:
        if self._desk is None:
            raise _unreachable()
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar())
            self._places = asyncio.Semaphore(AT_ONCE)
        assert self._places is not None
        wanted = {"texts": [text[:MAX_TEXT_CHARACTERS] for text in texts]} | (
            {"model": model} if model else {}
        )
        try:
            async with (
                self._places,
                self._session.post(
                    self._desk.url,
                    data=msgspec.json.encode(wanted),
                    headers=self._desk.headers,
                    timeout=aiohttp.ClientTimeout(total=SECONDS),
                    allow_redirects=False,
                ) as response,
            ):
                content = await response.read()
                if response.status != 200:
                    raise _refusal(response.status, content)
                size = int(response.headers[DIMENSION_HEADER]) * FLOAT32_BYTES
        except (aiohttp.ClientError, TimeoutError, OSError):
            raise EmbeddingFailed(
                "The platform could not be asked for embeddings; try again shortly."
            ) from None
        if len(content) != size * len(texts):
            raise EmbeddingFailed("The platform broke off in the middle of the embeddings.")
        return {(model, text): content[i * size : (i + 1) * size] for i, text in enumerate(texts)}


class _Refusal(Struct, frozen=True):
    error: str = "The texts could not be embedded"
    code: str = EmbeddingFailed.code


def _refusal(status: int, content: bytes) -> EmbeddingFailed:
    try:
        told = msgspec.json.decode(content, type=_Refusal)
    except msgspec.MsgspecError:
        told = _Refusal()
    # What is wrong with the question is the statement's fault; everything else is a source that does not answer.
    is_asked_wrongly = status in (400, 404)
    return EmbeddingFailed(_sentence(told.error), status=400 if is_asked_wrongly else 502, code=told.code)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "…", "?", "!")) else text + "."


def _unreachable() -> EmbeddingFailed:
    return EmbeddingFailed("This runtime has not been told where texts are embedded.")


def _requests_of(texts: Sequence[str]) -> list[list[str]]:
    batches: list[list[str]] = []
    size = REQUEST_BYTES
    for text in texts:
        length = len(text[:MAX_TEXT_CHARACTERS].encode("utf-8", "surrogatepass"))
        if size + length > REQUEST_BYTES or len(batches[-1]) == REQUEST_TEXTS:
            batches.append([])
            size = 0
        batches[-1].append(text)
        size += length
    return batches


def _weight(key: tuple[str, str], vector: bytes) -> int:
    return len(key[1]) * 2 + len(vector) + _OVERHEAD_BYTES
