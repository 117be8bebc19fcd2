"""What the host sees to: signs of life, limits, and two epochs side by side while the older ends its answers."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from .conftest import Lakes, is_alive, lakes_of, limits

GIBIBYTE = 1024**3


async def test_a_runtime_that_stands_still_is_ended_and_its_tenants_next_one_answers(tmp_path: Path) -> None:
    async with lakes_of(tmp_path, "--silence-seconds", "2") as lakes:
        still, lively = await lakes.start(), await lakes.start()
        for lake in (still, lively):
            await lake.configure()
        os.kill(still.pid, signal.SIGSTOP)
        started = time.monotonic()
        event = await lakes.host.exit_of(still.pid)
        assert (event["reason"], event["status"]) == ("silent", -signal.SIGKILL)
        assert time.monotonic() - started < 4
        again = await lakes.start(still.tenant, 2)
        await again.configure()
        assert await again.rows("select 1 as x") == [{"x": 1}]
        assert await lively.rows("select 1 as x") == [{"x": 1}]
        assert is_alive(lively.pid)


async def test_a_host_that_stood_still_itself_ends_nobody_for_their_silence(tmp_path: Path) -> None:
    async with lakes_of(tmp_path, "--silence-seconds", "4") as lakes:
        lake = await lakes.start()
        await lake.configure()
        host = (await lakes.host.ask("ping"))["pid"]
        # As when the whole machine is suspended: the runtime wakes last.
        for pid in (lake.pid, host):
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(5)
        os.kill(host, signal.SIGCONT)
        await asyncio.sleep(0.5)
        os.kill(lake.pid, signal.SIGCONT)
        await asyncio.sleep(4.5)
        assert await lake.rows("select 1 as x") == [{"x": 1}]
        assert lakes.host.exits == []


async def test_limits_on_memory_files_and_cores_leave_the_engine_room(lakes: Lakes) -> None:
    lake = await lakes.start(memory=256 * 1024 * 1024)
    await lake.configure()
    told = limits(lake.pid).split("Max ")
    space = next(line.split() for line in told if line.startswith("address space"))
    assert 3 * GIBIBYTE <= int(space[2]) == int(space[3]) < 16 * GIBIBYTE
    assert "open files 1024 1024" in limits(lake.pid)
    assert "core file size 0 0" in limits(lake.pid)


async def test_one_that_was_let_go_ends_its_answer_beside_its_successor(lakes: Lakes) -> None:
    old = await lakes.start()
    await old.configure()
    slow = asyncio.create_task(
        old.sql(
            "select sum(a.value * b.value) as s from generate_series(1, 20000) a, generate_series(1, 5000) b"
        )
    )
    await asyncio.sleep(0.1)
    assert await old.request("POST", "/stop", {"drainSeconds": 60}) == (200, {"ok": True})
    assert await lakes.host.ask("letGo", tenant=old.tenant, epoch=1) == {"ok": True, "found": True}
    new = await lakes.start(old.tenant, 2, socket=str(lakes.home / "second.sock"))
    await new.configure()
    assert await new.rows("select 2 as x") == [{"x": 2}]
    assert is_alive(old.pid)
    assert (await slow)[0] == 200
    assert (await lakes.host.exit_of(old.pid))["status"] == 0
    assert not old.socket.exists()
    assert new.socket.exists()
    assert await new.rows("select 2 as x") == [{"x": 2}]


async def test_one_that_was_let_go_and_does_not_end_is_ended(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure()
    await lakes.host.ask("letGo", tenant=lake.tenant, epoch=1, seconds=0.3)
    assert (await lakes.host.exit_of(lake.pid, within=3))["reason"] == "replaced"


async def test_an_epoch_that_is_not_the_living_one_cannot_be_let_go(lakes: Lakes) -> None:
    lake = await lakes.start(epoch=5)
    assert (await lakes.host.ask("letGo", tenant=lake.tenant, epoch=4))["found"] is False
    listed = (await lakes.host.ask("list"))["runtimes"]
    assert next(r for r in listed if r["tenant"] == lake.tenant)["endedFor"] == ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
async def test_a_runtime_may_die_of_anything_and_its_neighbour_does_not_notice(
    lakes: Lakes, number: signal.Signals
) -> None:
    dying, lively = await lakes.start(), await lakes.start()
    for lake in (dying, lively):
        await lake.configure()
    os.kill(dying.pid, number)
    event = await lakes.host.exit_of(dying.pid)
    assert (event["reason"], event["status"]) == ("crash", -number)
    assert await lively.rows("select 1 as x") == [{"x": 1}]
