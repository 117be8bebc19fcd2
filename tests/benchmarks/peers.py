"""Other programs that do a part of what the lake does, each in an environment of its own under `.bench/`."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from tests.benchmarks.lake import ROUNDS, ROWS, drain, median_ratio, mixed_table, sql
from tests.benchmarks.load import drive
from tests.benchmarks.report import Report
from tests.benchmarks.standing import LAKE, Standing
from tests.serving import free_port
from tests.starting import ROOT

BENCH = ROOT / ".bench"
CLIENTS = 16
REQUESTS = 300


async def peers(standing: Standing, report: Report) -> None:
    """A million rows and small hot queries, against ROAPI with its tables in memory."""
    table = mixed_table()
    path = standing.add_parquet("mixed_peers", table)
    small = standing.add_parquet("small_peers", table.slice(0, 10_000))
    standing.client.post(f"{LAKE}/sql", content=sql("SELECT count(*) FROM mixed_peers")).raise_for_status()
    address, secret = await standing.runtime()
    with roapi({"mixed_peers": path, "small_peers": small}) as url:
        report.title(f"A million rows × 8 columns as JSON, against ROAPI ({ROUNDS} rounds)")
        query = sql("SELECT * FROM mixed_peers", maxRows=ROWS)
        theirs: list[float] = []
        ours: list[float] = []
        for _ in range(ROUNDS):
            theirs.append(await asyncio.to_thread(_ask_roapi, url, "SELECT * FROM mixed_peers"))
            ours.append(await drain(standing.platform.url, f"{LAKE}/sql", standing.headers, query))
        ratio = median_ratio(theirs, ours)
        report.add("rows/s through the gateway ÷ ROAPI's", f"{ratio:.2f} ×", "≥ 2 ×", reached=ratio >= 2)
        report.title(f"Small hot queries, {CLIENTS} clients, asked of the runtime, against ROAPI")
        for name, text in {
            "a count": "SELECT count(*) AS n FROM small_peers",
            "25 rows": "SELECT * FROM small_peers WHERE id < 25",
            "limit 100 of a million": "SELECT * FROM mixed_peers LIMIT 100",
        }.items():
            for kind, cached in {"kept answers": True, "made anew": False}.items():
                rates: list[float] = []
                body = json.dumps({"query": text, "useCache": cached}).encode()
                for _ in range(3):
                    their = await _rate(url, "/api/sql", {}, text.encode())
                    rates.append(await _rate(address, "/sql", secret, body) / their)
                rate = sorted(rates)[1]
                report.add(
                    f"{name}, {kind}: requests/s ÷ ROAPI's", f"{rate:.2f} ×", "≥ 0.8 ×", reached=rate >= 0.8
                )


async def _rate(address: str, path: str, headers: dict[str, str], body: bytes) -> float:
    run = await drive(address, path, headers, body, clients=CLIENTS, requests=REQUESTS, expect=b"[")
    if run.failures:
        raise RuntimeError(f"{path}: {run.failures} requests failed")
    return run.rate


def _ask_roapi(url: str, text: str) -> float:
    started = time.perf_counter()
    with httpx.stream("POST", f"{url}/api/sql", content=text, timeout=600) as answer:
        answer.raise_for_status()
        for _ in answer.iter_raw():
            pass
    return time.perf_counter() - started


def environment(name: str, *packages: str) -> Path:
    """The programs of packages that must not live beside ours, installed when first wanted."""
    home = BENCH / name
    if not (home / "ready").exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([home / "bin" / "pip", "install", "--quiet", *packages], check=True)
        (home / "ready").touch()
    return home / "bin"


@contextmanager
def roapi(tables: dict[str, Path]) -> Iterator[str]:
    """ROAPI as it comes: its tables are loaded into memory before it answers."""
    program, port = environment("roapi", "roapi") / "roapi", free_port()
    options = [part for name, path in tables.items() for part in ("--table", f"{name}={path}")]
    # Its other doors stand on fixed ports unless told.
    others = ["--addr-postgres", f"127.0.0.1:{free_port()}", "--addr-flight-sql", f"127.0.0.1:{free_port()}"]
    command = [str(program), "--addr-http", f"127.0.0.1:{port}", *others, *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("ROAPI does not answer")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.post(f"{url}/api/sql", content="SELECT 1", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


class Side:
    """An engine in a process of its own; see `side.py`."""

    def __init__(self, program: Path | str, engine: str, folder: Path, **settings: str) -> None:
        # The runtime's own environment: the comparison is of ways, not of settings.
        told = os.environ | {"SIDE_SETTINGS": json.dumps(settings), "TOKIO_WORKER_THREADS": "8"}
        told["MIMALLOC_PURGE_DELAY"] = "10000"
        self._process = subprocess.Popen(
            [str(program), str(Path(__file__).with_name("side.py")), engine, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=told,
            text=True,
        )

    def ask(self, text: str) -> tuple[float, list[dict[str, Any]]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(text) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer["seconds"], answer["rows"]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
