"""Knowledge's figures: how fast files are indexed, how fast ten thousand passages are searched, and what is missed.

The embedding model is a fake whose vectors follow from the text: those of one topic are near to each other.
"""

import asyncio
import hashlib
import statistics
import time
import uuid
from array import array
from functools import lru_cache
from math import sqrt
from random import Random
from typing import Any

from aiohttp import web
from tests.benchmarks.report import Report
from tests.benchmarks.standing import Standing

DIMENSIONS = (384, 1536)
FILES, PASSAGES = 10, 1000
TOPICS = 100
QUERIES = 60
LIMIT = 10
GOAL_MILLISECONDS = 20
GOAL_RECALL = 0.95
PASSAGE_CHARACTERS = 2100
BASES = "/api/v1/knowledge-bases"


async def knowledge(standing: Standing, report: Report) -> None:
    for dimension in DIMENSIONS:
        report.title(f"{FILES * PASSAGES} passages, vectors of {dimension} numbers, {QUERIES} searches")
        runner, url = await _serve(dimension)
        try:
            await _measure(standing, report, dimension, url)
        finally:
            await runner.cleanup()


async def _measure(standing: Standing, report: Report, dimension: int, url: str) -> None:
    name = f"bench-{uuid.uuid4().hex[:8]}"
    model = {"name": name, "type": "openai_compatible", "model_name": "bench", "kind": "embedding"}
    await _ask(standing, "/api/v1/models", model | {"base_url": url})
    await _ask(standing, BASES, {"name": name, "embedding_model_id": name})
    random = Random(dimension)
    passages = [_passage(random) for _ in range(FILES * PASSAGES)]
    started = time.perf_counter()
    for number in range(FILES):
        text = "\n\n".join(passages[number * PASSAGES : (number + 1) * PASSAGES])
        await asyncio.to_thread(_upload, standing, name, f"{number}.txt", text)
    while not all(file["status"] == "ready" for file in await asyncio.to_thread(_files, standing, name)):
        await asyncio.sleep(0.2)
    rate = len(passages) / (time.perf_counter() - started)
    report.add("indexed, whole", f"{rate:.0f} passages/s")
    taken: list[float] = []
    for _ in range(QUERIES):
        query = f"{_topic(random)} {' '.join(_word(random) for _ in range(3))}"
        started = time.perf_counter()
        await _ask(standing, f"{BASES}/{name}/search", {"query": query, "limit": 5})
        taken.append((time.perf_counter() - started) * 1000)
    median = statistics.median(taken)
    goal = f"≤ {GOAL_MILLISECONDS} ms"
    report.add("POST …/search, median", f"{median:.1f} ms", goal, reached=median <= GOAL_MILLISECONDS)
    report.add("the slowest of twenty", f"{sorted(taken)[-QUERIES // 20]:.1f} ms")
    recall = statistics.mean([await _recall(standing, name, passages, dimension, n) for n in range(10)])
    report.add(
        f"of the {LIMIT} nearest are found",
        f"{recall:.1%}",
        f"≥ {GOAL_RECALL:.0%}",
        reached=recall >= GOAL_RECALL,
    )


async def _recall(standing: Standing, name: str, passages: list[str], dimension: int, number: int) -> float:
    """Of words this short none is searched for: only nearness counts."""
    query = f"{number * 7 + 10} q{number}"
    wanted = _vector(query, dimension)
    near = sorted(passages, key=lambda text: -_similarity(wanted, _vector(text, dimension)))[:LIMIT]
    answer = await _ask(standing, f"{BASES}/{name}/search", {"query": query, "limit": LIMIT})
    return len({one["text"] for one in answer["results"]} & set(near)) / LIMIT


async def _serve(dimension: int) -> tuple[web.AppRunner, str]:
    async def answer(request: web.Request) -> web.Response:
        texts = (await request.json())["input"]
        data = [
            {"index": index, "embedding": list(_vector(text, dimension))} for index, text in enumerate(texts)
        ]
        return web.json_response({"data": data})

    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_post("/v1/embeddings", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/v1"


@lru_cache(maxsize=2 * FILES * PASSAGES)
def _vector(text: str, dimension: int) -> "array[float]":
    """Of length 1: what the topic says, and a little less what the text says."""
    topic = hashlib.shake_128(text.partition(" ")[0].encode()).digest(dimension)
    own = hashlib.shake_128(text.encode()).digest(dimension)
    numbers = [(a - 127.5) + 0.7 * (b - 127.5) for a, b in zip(topic, own, strict=True)]
    length = sqrt(sum(number * number for number in numbers))
    return array("f", (number / length for number in numbers))


def _similarity(one: "array[float]", other: "array[float]") -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _topic(random: Random) -> str:
    return str(random.randrange(10, 10 + TOPICS - 10))


def _word(random: Random) -> str:
    return f"word{random.randrange(5000)}"


def _passage(random: Random) -> str:
    text = _topic(random)
    while len(text) < PASSAGE_CHARACTERS:
        text += " " + _word(random)
    return text


def _upload(standing: Standing, base: str, name: str, text: str) -> None:
    headers = {"content-type": "multipart/form-data; boundary=xxbenchxx"}
    head = f'--xxbenchxx\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    body = (head + text + "\r\n--xxbenchxx--\r\n").encode()
    standing.client.post(f"{BASES}/{base}/files", content=body, headers=headers).raise_for_status()


def _files(standing: Standing, base: str) -> list[dict[str, Any]]:
    files = standing.client.get(f"{BASES}/{base}/files").raise_for_status().json()
    failed = [file for file in files if file["status"] == "error"]
    if failed:
        raise RuntimeError(failed[0]["status_message"])
    return files


async def _ask(standing: Standing, path: str, body: dict[str, Any]) -> Any:
    answer = await asyncio.to_thread(standing.client.post, path, json=body)
    return answer.raise_for_status().json()
