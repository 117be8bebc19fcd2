"""A fake embedding model for measuring, in a process of its own: vectors that follow from the text, told at once when asked again.

`python -m tests.benchmarks.embedder PORT DIMENSION` serves OpenAI's embeddings on loopback. Texts of one topic, their
first word, are near to each other.
"""

import hashlib
import json
import sys
from array import array
from functools import lru_cache
from math import sqrt

from aiohttp import web

KEPT_TEXTS = 20_000


@lru_cache(maxsize=KEPT_TEXTS)
def vector_of(text: str, dimension: int) -> "array[float]":
    """Of length 1: what the topic says, and a little less what the text says."""
    topic = hashlib.shake_128(text.partition(" ")[0].encode()).digest(dimension)
    own = hashlib.shake_128(text.encode()).digest(dimension)
    numbers = [(a - 127.5) + 0.7 * (b - 127.5) for a, b in zip(topic, own, strict=True)]
    length = sqrt(sum(number * number for number in numbers))
    return array("f", (number / length for number in numbers))


@lru_cache(maxsize=KEPT_TEXTS)
def _told(text: str, dimension: int) -> str:
    return json.dumps(list(vector_of(text, dimension)))


def _serve(port: int, dimension: int) -> None:
    async def alive(_: web.Request) -> web.Response:
        return web.Response()

    async def answer(request: web.Request) -> web.Response:
        texts = (await request.json())["input"]
        items = (
            f'{{"index":{index},"embedding":{_told(text, dimension)}}}' for index, text in enumerate(texts)
        )
        return web.Response(text=f'{{"data":[{",".join(items)}]}}', content_type="application/json")

    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_get("/", alive)
    app.router.add_post("/v1/embeddings", answer)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
