"""The post room as a process: what it says, and how it ends."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.serving import free_port


@asynccontextmanager
async def started(dsn: str, redis_url: str, home: Path) -> AsyncIterator[tuple[Any, str]]:
    """A worker, and where it tells its metrics."""
    url = f"http://127.0.0.1:{free_port()}"
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "WEIR_DATABASE_URL": dsn,
        "WEIR_REDIS_URL": redis_url,
        "WEIR_DATA_DIR": str(home),
        "WEIR_WORKER_URL": url,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "weir", "worker", env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def metrics(url: str) -> str:
    async with httpx.AsyncClient() as http:
        for _ in range(200):
            try:
                return (await http.get(f"{url}/metrics")).text
            except httpx.TransportError:
                await asyncio.sleep(0.05)
    raise AssertionError("the worker tells no metrics")


class Cable:
    """A connection to Redis that can be cut."""

    def __init__(self, redis_url: str) -> None:
        self._parts = urlsplit(redis_url)
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def lay(self) -> str:
        """The address of its near end."""
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        near, port = self._parts.netloc.rpartition("@")[0], self._server.sockets[0].getsockname()[1]
        return self._parts._replace(netloc=f"{near}{'@' if near else ''}127.0.0.1:{port}").geturl()

    def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        self._writers += [writer, far_writer]
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while content := await reader.read(65536):
            writer.write(content)
    except OSError:
        pass
    finally:
        writer.close()


async def test_a_worker_tells_its_metrics_and_ends_well_on_sigterm(
    dsn: str, redis_url: str, tmp_path: Path
) -> None:
    async with started(dsn, redis_url, tmp_path) as (process, url):
        text = await metrics(url)
        assert "weir_lake_vm_boot_seconds_count" in text
        assert "weir_process_cpu_seconds_total" in text
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 15) == 0


async def test_a_worker_that_loses_its_doorbell_says_so_and_ends_with_1(
    dsn: str, redis_url: str, tmp_path: Path
) -> None:
    cable = Cable(redis_url)
    url_through_cable = await cable.lay()
    async with started(dsn, url_through_cable, tmp_path) as (process, url):
        await metrics(url)
        await asyncio.sleep(1)
        assert process.returncode is None
        cable.cut()
        assert await asyncio.wait_for(process.wait(), 30) == 1
        assert b"the worker cannot go on" in await process.stderr.read()


@pytest.mark.parametrize("missing", ["redis", "database"])
async def test_a_worker_without_its_servers_says_so_and_ends_with_1(
    dsn: str, redis_url: str, tmp_path: Path, missing: str
) -> None:
    port = free_port()
    if missing == "redis":
        redis_url = f"redis://127.0.0.1:{port}/0"
    else:
        dsn = f"postgresql://postgres@127.0.0.1:{port}/x"
    async with started(dsn, redis_url, tmp_path) as (process, _):
        assert await asyncio.wait_for(process.wait(), 30) == 1
        assert b"the worker cannot go on" in await process.stderr.read()
