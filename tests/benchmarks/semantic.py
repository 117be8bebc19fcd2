"""Semantic search's figure: the ten closest of a hundred thousand vectors, with a vector that is there already."""

import statistics
import time
from array import array
from random import Random

import pyarrow as pa
from tests.benchmarks.report import Report
from tests.benchmarks.standing import LAKE, Standing

ROWS, DIMENSION = 100_000, 384
ROUNDS = 7


async def semantic(standing: Standing, report: Report) -> None:
    """Each vector is read from Parquet and compared, none is skipped by an index."""
    report.title(f"The ten closest of {ROWS} vectors of {DIMENSION} numbers ({ROUNDS} rounds)")
    standing.add_parquet("vectors", _table())
    wanted = Random(7)
    vector = [wanted.gauss(0, 1) for _ in range(DIMENSION)]
    query = "select id, cosine_similarity(v, $1) as score from vectors order by score desc, id limit 10"
    taken = [_ask(standing, {"query": query, "parameters": [vector]}) for _ in range(ROUNDS)]
    report.add("POST /sql, median", f"{statistics.median(taken) * 1000:.0f} ms")
    report.add("the quickest", f"{min(taken) * 1000:.0f} ms")


def _ask(standing: Standing, body: dict[str, object]) -> float:
    started = time.perf_counter()
    answer = standing.client.post(f"{LAKE}/sql", json=body, headers={"cache-control": "no-cache"})
    answer.raise_for_status()
    assert len(answer.json()["rows"]) == 10
    return time.perf_counter() - started


def _table() -> pa.Table:
    random = Random(1)
    # Numbers that repeat after a while, as making 38 million of them takes longer than the measurement.
    some = array("f", (random.gauss(0, 1) for _ in range(199_999)))
    numbers = (some * (ROWS * DIMENSION // len(some) + 1))[: ROWS * DIMENSION]
    flat = pa.Array.from_buffers(pa.float32(), len(numbers), [None, pa.py_buffer(numbers)])
    offsets = pa.array(range(0, ROWS * DIMENSION + 1, DIMENSION), pa.int32())
    return pa.table({"id": pa.array(range(ROWS)), "v": pa.ListArray.from_arrays(offsets, flat)})
