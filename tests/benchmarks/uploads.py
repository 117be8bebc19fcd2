"""What an import costs: 200 MB through gateway and desk, beside the same bytes through a bare ASGI app to the same disk."""

import asyncio
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
from tests.benchmarks.report import Report
from tests.benchmarks.standing import LAKE, Standing
from tests.serving import free_port
from tests.starting import ROOT

from weir_shared.web.server import serve

MEGABYTES = 200
GROWTH_MIB = 64
RUNS = 3


async def uploads(standing: Standing, report: Report) -> None:
    """Parquet that nothing compresses, so that the bytes count and reading it through is short."""
    report.title(f"Imports: a Parquet file of {MEGABYTES} MB (best of {RUNS})")
    content = _parquet()
    size = len(content) / 1e6
    folder = standing.platform.data_dir / "bench"
    folder.mkdir(exist_ok=True)
    with _bare(folder / "plain") as url:
        bare = min([await asyncio.to_thread(_send, url, {}, content) for _ in range(RUNS)])
    report.add("a bare app writes it and syncs it", f"{size / bare:.0f} MB/s")
    headers = {name: value for name, value in standing.headers.items() if name == "Authorization"}
    with _watched(standing) as grown:
        taken = min(
            [await asyncio.to_thread(_send, standing.platform.url, headers, content) for _ in range(RUNS)]
        )
    report.add("POST /imports, the file read through and a table of it", f"{size / taken:.0f} MB/s")
    report.add("of the bare app", f"{bare / taken:.2f} ×")
    for service in ("gateway", "context-lake"):
        growth = grown[service] / 2**20
        report.add(
            f"{service} grew by", f"{growth:.0f} MiB", f"≤ {GROWTH_MIB} MiB", reached=growth <= GROWTH_MIB
        )
    standing.client.delete(f"{LAKE}/datasets/bench_upload").raise_for_status()


def _parquet() -> bytes:
    rows = MEGABYTES * 1_000_000 // 8
    sink = io.BytesIO()
    numbers = pa.Array.from_buffers(pa.int64(), rows, [None, pa.py_buffer(os.urandom(rows * 8))])
    pq.write_table(pa.table({"n": numbers}), sink, compression="none", use_dictionary=False)
    return sink.getvalue()


def _send(url: str, headers: dict[str, str], content: bytes) -> float:
    started = time.perf_counter()
    answer = httpx.post(
        f"{url}{LAKE}/imports",
        headers=headers,
        files={"file": ("bench_upload.parquet", content)},
        data={"replace": "true"},
        timeout=180,
    )
    answer.raise_for_status()
    return time.perf_counter() - started


@contextmanager
def _bare(file: Path) -> Iterator[str]:
    """The address of the bare app, in a process of its own as the platform's services are."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.uploads", str(port), str(file)], cwd=ROOT
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            with suppress(httpx.TransportError):
                httpx.get(url, timeout=1)
                break
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(30)


class Bare:
    """An app that does nothing but put the body on the disk."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
                if kind == "lifespan.shutdown":
                    return
        with self._file.open("wb") as file:
            while True:
                event = await receive()
                file.write(event.get("body", b""))
                if not event.get("more_body", False):
                    break
            file.flush()
            os.fsync(file.fileno())
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


@contextmanager
def _watched(standing: Standing) -> Iterator[dict[str, int]]:
    """By how much each service's own memory grew at most while the block ran, once it is over."""
    before, most, stop = standing.processes(), {}, Event()

    def look() -> None:
        while not stop.wait(0.1):
            for service, resident in standing.processes().items():
                most[service] = max(most.get(service, 0), resident)

    grown: dict[str, int] = {}
    watcher = Thread(target=look)
    watcher.start()
    try:
        yield grown
    finally:
        stop.set()
        watcher.join()
        grown.update({service: resident - before.get(service, 0) for service, resident in most.items()})


if __name__ == "__main__":
    serve(Bare(Path(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[1]))
