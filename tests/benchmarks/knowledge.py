"""Knowledge's figures: how fast files are indexed, how fast ten thousand passages are searched, and what is missed.

The embedding model is a fake whose vectors follow from the text: those of one topic are near to each other.
"""

import asyncio
import json
import statistics
import time
import uuid
from random import Random
from typing import TYPE_CHECKING, Any

from tests.benchmarks.embedder import vector_of
from tests.benchmarks.load import Connection
from tests.benchmarks.report import Report
from tests.benchmarks.standing import JSON, Standing, embedder

if TYPE_CHECKING:
    from array import array

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
        with embedder(dimension) as url:
            await _measure(standing, report, dimension, url)


async def _measure(standing: Standing, report: Report, dimension: int, url: str) -> None:
    name = f"bench-{uuid.uuid4().hex[:8]}"
    model = {"name": name, "type": "openai_compatible", "model_name": "bench", "kind": "embedding"}
    await _ask(standing, "/api/v1/models", model | {"base_url": f"{url}/v1"})
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
    queries = [f"{_topic(random)} {' '.join(_word(random) for _ in range(3))}" for _ in range(QUERIES)]
    # Asked for once before: from then on the model knows the answer, as one with no thinking time would.
    alone = [await _embedded(url, query) for query in (*queries, *queries)][QUERIES:]
    taken = await _searched(standing, f"{BASES}/{name}/search", queries)
    median = statistics.median(taken)
    goal = f"≤ {GOAL_MILLISECONDS} ms"
    report.add("POST …/search, median", f"{median:.1f} ms", goal, reached=median <= GOAL_MILLISECONDS)
    report.add("… of which the model answers in", f"{statistics.median(alone):.1f} ms")
    report.add("the slowest of twenty", f"{sorted(taken)[-QUERIES // 20]:.1f} ms")
    recall = statistics.mean([await _recall(standing, name, passages, dimension, n) for n in range(10)])
    report.add(
        f"of the {LIMIT} nearest are found",
        f"{recall:.1%}",
        f"≥ {GOAL_RECALL:.0%}",
        reached=recall >= GOAL_RECALL,
    )


async def _searched(standing: Standing, path: str, queries: list[str]) -> list[float]:
    """Milliseconds of each."""
    connection = Connection(standing.platform.url)
    taken: list[float] = []
    for query in queries:
        body = json.dumps({"query": query, "limit": 5}).encode()
        reply = await connection.ask("POST", path, standing.headers, body)
        assert reply.status == 200, reply.body
        taken.append(reply.total * 1000)
    await connection.close()
    return taken


async def _embedded(url: str, text: str) -> float:
    """Milliseconds that the model alone takes."""
    connection = Connection(url)
    body = json.dumps({"model": "bench", "input": [text]}).encode()
    reply = await connection.ask("POST", "/v1/embeddings", JSON, body)
    await connection.close()
    return reply.total * 1000


async def _recall(standing: Standing, name: str, passages: list[str], dimension: int, number: int) -> float:
    """Of words this short none is searched for: only nearness counts."""
    query = f"{number * 7 + 10} q{number}"
    wanted = vector_of(query, dimension)
    near = sorted(passages, key=lambda text: -_similarity(wanted, vector_of(text, dimension)))[:LIMIT]
    answer = await _ask(standing, f"{BASES}/{name}/search", {"query": query, "limit": LIMIT})
    return len({one["text"] for one in answer["results"]} & set(near)) / LIMIT


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
