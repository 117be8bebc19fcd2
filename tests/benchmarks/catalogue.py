"""The catalogue's figures: every reading route and the patch of a full lake, beside a bare route of the same run."""

import asyncio
import json
import statistics
import time

from tests.benchmarks.load import Connection
from tests.benchmarks.report import Report
from tests.benchmarks.standing import LAKE, Standing

DATASETS = 200
CLIENTS = 4
READS = 400
PATCHES = 120
BARE = "/api/v1/health"
ROUTES = {
    "GET /config": "/config",
    "GET /datasets": "/datasets",
    "GET /datasets?limit=20": "/datasets?limit=20",
    "GET /datasets/{name}": "/datasets/bench_7",
    "GET /datasets?include=status": "/datasets?include=status",
    "GET /views": "/views",
    "GET /views/{name}": "/views/bench_view_3",
    "GET /config/versions": "/config/versions",
    "GET /config/versions/{n}": "/config/versions/1",
    "GET /status": "/status",
}


async def catalogue(standing: Standing, report: Report) -> None:
    """A lake of 200 datasets and 20 views, four clients at once."""
    report.title(f"Catalogue: {DATASETS} datasets, {CLIENTS} clients, each route in turn (p99)")
    body = {
        "addDatasets": [_dataset(n) for n in range(DATASETS - _there(standing))],
        "addViews": [{"name": f"bench_view_{n}", "sql": f"select * from bench_{n}"} for n in range(20)],
    }
    standing.client.patch(f"{LAKE}/config", json=body).raise_for_status()
    first = standing.client.get(f"{LAKE}/config/versions").json()["versions"][-1]["version"]
    bare = await _load(standing, "GET", BARE, READS)
    report.add(f"GET {BARE}", _shown(bare))
    for name, path in ROUTES.items():
        where = LAKE + path.replace("versions/1", f"versions/{first}")
        taken = await _load(standing, "GET", where, READS)
        _tell(report, name, taken, bare, 20)
    patched = await _load(standing, "PATCH", f"{LAKE}/config", PATCHES)
    _tell(report, "PATCH /config, one dataset", patched, bare, 100)
    names = [f"bench_{n}" for n in range(DATASETS - _there(standing, own=False))]
    views = [f"bench_view_{n}" for n in range(20)]
    gone = {"removeDatasets": names, "removeViews": views}
    standing.client.patch(f"{LAKE}/config", json=gone).raise_for_status()


def _dataset(n: int) -> dict[str, object]:
    params = {"s3_auth": "key", "s3_key": "AKIAEXAMPLE", "s3_secret": "shh", "file_format": "parquet"}
    return {"name": f"bench_{n}", "from": f"s3://bench/{n}/data.parquet", "params": params}


def _there(standing: Standing, *, own: bool = True) -> int:
    """How many datasets the lake has, or has besides the benchmark's."""
    listed = standing.client.get(f"{LAKE}/datasets").json()["datasets"]
    return sum(own or not item["name"].startswith("bench_") for item in listed)


def _patch(client: int, round_: int) -> bytes:
    change = {"updateDatasets": {f"bench_{client}": {"description": f"round {round_}"}}}
    return json.dumps(change).encode()


async def _load(standing: Standing, method: str, path: str, requests: int) -> list[float]:
    """Seconds of every answer, sorted; the first of each client only warm up."""

    async def one(client: int) -> list[float]:
        connection, taken = Connection(standing.platform.url), []
        for n in range(requests // CLIENTS + 5):
            body = _patch(client, n) if method == "PATCH" else b""
            started = time.perf_counter()
            reply = await connection.ask(method, path, standing.headers, body)
            if reply.status != 200:
                raise RuntimeError(f"{method} {path}: {reply.status} {reply.body[:300]!r}")
            taken.append(time.perf_counter() - started)
        await connection.close()
        return taken[5:]

    loads = await asyncio.gather(*(one(client) for client in range(CLIENTS)))
    return sorted(taken for load in loads for taken in load)


def _p99(taken: list[float]) -> float:
    return taken[min(len(taken) - 1, int(len(taken) * 0.99))] * 1000


def _shown(taken: list[float]) -> str:
    return f"{_p99(taken):.1f} ms"


def _tell(report: Report, name: str, taken: list[float], bare: list[float], goal: int) -> None:
    ratio = statistics.median(taken) / statistics.median(bare)
    report.add(
        f"{name} (p50 {statistics.median(taken) * 1000:.1f} ms, {ratio:.1f} × the bare route)",
        _shown(taken),
        f"< {goal} ms",
        reached=_p99(taken) < goal,
    )
