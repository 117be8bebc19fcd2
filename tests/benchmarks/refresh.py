"""Queries while what they read is loaded anew: how many see two generations mixed, and how many fail."""

import asyncio
import json
import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tests.benchmarks.load import Connection
from tests.benchmarks.report import Report
from tests.benchmarks.standing import LAKE, Standing

QUERIES = 1_000
CLIENTS = 4
ROWS = 200_000
NAME, INLINE, MATERIALISED = "bench_g", "bench_g_inline", "bench_g_kept"
# The dataset three times over: by itself, through a condition, and through a view.
TOGETHER = (
    f"SELECT min(g) AS low, max(g) AS high, count(*) AS n FROM (SELECT g FROM {NAME} UNION ALL "
    f"SELECT g FROM {NAME} WHERE n < 10 UNION ALL SELECT g FROM {INLINE})"
)
KEPT = f"SELECT min(g) AS low, max(g) AS high, count(*) AS n FROM {MATERIALISED}"


async def refresh(standing: Standing, report: Report) -> None:
    """Each row names its generation; a dataset, a view over it and a materialised view are read all the while."""
    report.title(f"Refresh: {QUERIES} queries during refreshes of {ROWS} rows, {CLIENTS} clients")
    path = _add(standing)
    done, mixed, failed, generations = asyncio.Event(), 0, 0, set[int]()
    asked = 0

    async def ask() -> None:
        nonlocal asked, mixed, failed
        connection = Connection(standing.platform.url)
        while asked < QUERIES:
            asked += 1
            query, rows = (KEPT, 10) if asked % 4 == 0 else (TOGETHER, ROWS + 11)
            # A text of its own each time: no answer is one that was kept.
            body = json.dumps({"query": f"{query} -- {asked}"}).encode()
            reply = await connection.ask("POST", f"{LAKE}/sql", standing.headers, body)
            if reply.status != 200:
                failed += 1
                continue
            [row] = json.loads(reply.body)["rows"]
            mixed += row["low"] != row["high"] or row["n"] != rows
            generations.add(row["high"])
        await connection.close()

    refreshing = asyncio.create_task(_refresh_until(standing, path, done))
    started = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(CLIENTS)))
    seconds = time.perf_counter() - started
    done.set()
    taken, refused = await refreshing
    report.add("queries asked", str(asked))
    report.add("of which saw two generations mixed", str(mixed), "0", reached=mixed == 0)
    report.add("of which failed", str(failed), "0", reached=failed == 0)
    report.add("refreshes meanwhile", str(len(taken)))
    report.add("of which failed", str(refused), "0", reached=refused == 0)
    report.add("generations seen", str(len(generations)), "≥ 5", reached=len(generations) >= 5)
    report.add("queries a second meanwhile", f"{asked / seconds:.0f}")
    report.add("a refresh, asked for until done (median)", f"{sorted(taken)[len(taken) // 2]:.2f} s")
    for name in (MATERIALISED, INLINE):
        standing.client.delete(f"{LAKE}/views/{name}").raise_for_status()
    standing.client.delete(f"{LAKE}/datasets/{NAME}").raise_for_status()


async def _refresh_until(standing: Standing, path: Path, done: asyncio.Event) -> tuple[list[float], int]:
    """Seconds of each refresh, and how many of them failed."""
    connection, taken, refused = Connection(standing.platform.url), list[float](), 0
    generation = 0
    while not done.is_set():
        generation += 1
        await asyncio.to_thread(_write, path, generation)
        started = time.perf_counter()
        reply = await connection.ask("POST", f"{LAKE}/datasets/{NAME}/refresh?wait=60", standing.headers, b"")
        taken.append(time.perf_counter() - started)
        refused += reply.status != 200 or not json.loads(reply.body)["ok"]
    await connection.close()
    return taken, refused


def _add(standing: Standing) -> Path:
    folder = standing.platform.data_dir / "imports" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}.parquet"
    _write(path, 0)
    dataset = {
        "name": NAME,
        "from": f"file:{path.resolve()}",
        "acceleration": {"engine": "duckdb", "mode": "file"},
    }
    standing.client.post(f"{LAKE}/datasets", json=dataset).raise_for_status()
    views = (
        {"name": INLINE, "sql": f"SELECT max(g) AS g FROM {NAME}"},
        {"name": MATERIALISED, "sql": f"SELECT g FROM {NAME} WHERE n < 10", "refresh": "manual"},
    )
    for view in views:
        standing.client.post(f"{LAKE}/views", json=view).raise_for_status()
    standing.client.post(f"{LAKE}/sql", json={"query": KEPT}).raise_for_status()
    return path


def _write(path: Path, generation: int) -> None:
    aside = path.with_suffix(f".{os.getpid()}")
    table = pa.table({"g": pa.array([generation] * ROWS), "n": pa.array(range(ROWS))})
    pq.write_table(table, aside, row_group_size=20_000)
    aside.rename(path)
