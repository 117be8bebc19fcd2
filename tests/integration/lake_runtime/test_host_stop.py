"""A host that is told to stop, or dies, leaves nothing behind."""

import asyncio
import os
import signal
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

from .conftest import HostClient, Lakes, is_alive, start_host


async def test_a_stopping_host_ends_its_children_and_removes_the_sockets(tmp_path: Path) -> None:
    process = start_host(tmp_path / "c.sock")
    client = HostClient(tmp_path / "c.sock")
    await client.connect()
    lakes = Lakes(client, tmp_path)
    pids = [(await client.ask("spawn", **lakes.order(str(uuid.uuid4()))))["pid"] for _ in range(2)]
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 10) == 0
    assert not any(is_alive(pid) for pid in pids)
    assert sockets_in(tmp_path) == []
    await client.close()


def sockets_in(folder: Path) -> list[Path]:
    return list(folder.glob("*.sock"))


async def test_a_host_that_is_killed_takes_its_children_along(
    tmp_path: Path, eventually: Callable[..., Awaitable[None]]
) -> None:
    process = start_host(tmp_path / "c.sock")
    client = HostClient(tmp_path / "c.sock")
    await client.connect()
    pid = (await client.ask("spawn", **Lakes(client, tmp_path).order(str(uuid.uuid4()))))["pid"]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    await eventually(lambda: not is_alive(pid))
    await client.close()
