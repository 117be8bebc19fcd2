"""A post room that works on tasks: within the test's own loop, or as a process that can be killed."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.integration.agent_engine.conftest import Caller
from tests.serving import free_port

from weir.agent_engine import jobs
from weir_shared.queue.rounds import Sweep, open_tools
from weir_shared.settings import Settings

SECONDS = 40.0


@asynccontextmanager
async def worker_here(dsn: str, redis_url: str, data_dir: Path) -> AsyncIterator[dict[str, Any]]:
    """The studio's part of a worker, with its rounds."""
    settings = Settings(
        database_url=dsn, redis_url=redis_url, data_dir=data_dir, allow_private_addresses=True
    )
    async with open_tools(settings) as tools, jobs.open_part(tools) as context:
        rounds = [asyncio.create_task(_make_rounds(context, sweep)) for sweep in jobs.SWEEPS]
        try:
            yield context
        finally:
            for one in rounds:
                one.cancel()
            await asyncio.wait(rounds)


@asynccontextmanager
async def worker_process(
    dsn: str, redis_url: str, data_dir: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "WEIR_DATABASE_URL": dsn,
        "WEIR_REDIS_URL": redis_url,
        "WEIR_DATA_DIR": str(data_dir),
        "WEIR_ALLOW_PRIVATE_ADDRESSES": "1",
        "WEIR_WORKER_URL": f"http://127.0.0.1:{free_port()}",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "weir", "worker", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def eventually(look: Callable[[], Awaitable[Any]], seconds: float = SECONDS) -> Any:
    """What `look` finds once it finds something."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := await look():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come to that in time")


async def reached(caller: Caller, task: dict[str, Any], status: str) -> dict[str, Any]:
    """The task, once it has come into that state."""
    seen: dict[str, Any] = {}

    async def look() -> Any:
        seen.update(await caller.ask(200, "GET", f"/tasks/{task['id']}"))
        return seen if seen["status"] == status else None

    try:
        return await eventually(look)
    except AssertionError:
        raise AssertionError(f"the task is {seen}, not {status}") from None


async def _make_rounds(context: dict[str, Any], sweep: Sweep) -> None:
    while True:
        await sweep.run(context)
        await asyncio.sleep(sweep.every_seconds)
