"""A fake embedding model: a server of the OpenAI and Gemini wires with vectors that a test can reckon.

A text's vector counts its words by what they are about (animals, money, weather), so that texts about the same
thing are close; or the server fails as scripted.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web
from msgspec import Struct

TOPICS = (
    {"cat", "dog", "kitten", "puppy", "animal", "animals", "pet"},
    {"money", "bank", "invoice", "price", "loan"},
    {"rain", "sun", "storm", "weather", "snow"},
)
DIMENSION = len(TOPICS) + 1


def vector_of(text: str) -> list[float]:
    """How many of its words are of each topic, and a little of everything."""
    words = text.lower().split()
    return [*(float(sum(word in topic for word in words)) for topic in TOPICS), 0.25]


class Failure(Struct, frozen=True, kw_only=True):
    """How one request goes wrong."""

    status: int = 200
    headers: dict[str, str] = {}
    raw: bytes | None = None
    """Sent in place of an answer."""
    hangs: bool = False
    dimension: int | None = None
    """Vectors of this many numbers instead."""
    numbers: str | None = None
    """Written in place of each vector."""


class FakeEmbedder:
    """What was asked, and what goes wrong next; the last failure is repeated when it is `always`."""

    def __init__(self, port: int) -> None:
        self.root = f"http://127.0.0.1:{port}"
        self.base_url = f"{self.root}/v1"
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.failures: list[Failure] = []
        self.always: Failure | None = None
        self.cut_off = asyncio.Event()

    @property
    def texts(self) -> list[str]:
        """Every text that was asked for, in order."""
        return [text for request in self.requests for text in _texts_of(request)]

    def forget(self) -> None:
        self.requests, self.headers, self.paths, self.failures, self.always = [], [], [], [], None
        self.cut_off.clear()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.paths.append(request.path_qs)
        failure = self.failures.pop(0) if self.failures else self.always or Failure()
        if failure.hangs:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                self.cut_off.set()
                raise
        if failure.status != 200:
            told = {"error": {"message": "the fake refuses sk-secretsecretsecret"}}
            return web.json_response(told, status=failure.status, headers=failure.headers)
        if failure.raw is not None:
            return web.Response(body=failure.raw, content_type="application/json")
        vectors = [vector_of(text) for text in _texts_of(body)]
        if failure.dimension is not None:
            vectors = [(vector * failure.dimension)[: failure.dimension] for vector in vectors]
        if failure.numbers is not None:
            items = ",".join(f'{{"index":{i},"embedding":{failure.numbers}}}' for i in range(len(vectors)))
            return web.Response(text=f'{{"data":[{items}]}}', content_type="application/json")
        return web.json_response(_gemini(vectors) if "requests" in body else _openai(vectors, body))


def _texts_of(body: dict[str, Any]) -> list[str]:
    if "requests" in body:
        return [wanted["content"]["parts"][0]["text"] for wanted in body["requests"]]
    return body["input"]


def _openai(vectors: list[list[float]], body: dict[str, Any]) -> dict[str, Any]:
    items = [
        {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)
    ]
    # Backwards: the protocol's order is the indices', not the list's.
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return {"object": "list", "data": items[::-1], "model": body.get("model", ""), "usage": usage}


def _gemini(vectors: list[list[float]]) -> dict[str, Any]:
    return {"embeddings": [{"values": vector} for vector in vectors]}


@asynccontextmanager
async def serve_fake_embedder() -> AsyncIterator[FakeEmbedder]:
    app = web.Application(client_max_size=16 * 1024 * 1024)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    fakes: list[FakeEmbedder] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        return await fakes[0].answer(request)

    app.router.add_post("/{path:.*}", answer)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fakes.append(FakeEmbedder(runner.addresses[0][1]))
    try:
        yield fakes[0]
    finally:
        with suppress(asyncio.TimeoutError):
            await runner.cleanup()
