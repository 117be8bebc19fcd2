"""The host: who may start what, and what it tells when a runtime ends."""

import asyncio
import os
import stat
import uuid

import aiohttp
import pytest

from .conftest import (
    HostClient,
    Lakes,
    RuntimeClient,
    is_alive,
    limits,
    open_files,
    resident_bytes,
    unix_sockets,
)


async def test_two_tenants_are_two_processes_and_see_their_own_tables_only(lakes: Lakes) -> None:
    one, two = await lakes.start(), await lakes.start()
    await one.configure(views=[{"name": "mine", "sql": "select 'one' as who"}])
    await two.configure(views=[{"name": "yours", "sql": "select 'two' as who"}])
    assert one.pid != two.pid
    assert await one.rows("select * from mine") == [{"who": "one"}]
    assert (await two.sql("select * from mine"))[0] == 400


async def test_a_second_spawn_of_the_same_epoch_is_the_same_process(lakes: Lakes) -> None:
    lake = await lakes.start()
    again = await lakes.host.ask("spawn", **lakes.order(lake.tenant))
    assert again == {"ok": True, "pid": lake.pid}


async def test_a_newer_epoch_replaces_the_older_process(lakes: Lakes) -> None:
    old = await lakes.start()
    new = await lakes.start(old.tenant, 2)
    await new.configure()
    assert (await lakes.host.exit_of(old.pid))["reason"] == "stopped"
    assert await new.rows("select 1 as x") == [{"x": 1}]


async def test_an_older_epoch_is_stale_for_spawn_and_kill(lakes: Lakes) -> None:
    lake = await lakes.start(epoch=7)
    assert (await lakes.host.ask("spawn", **lakes.order(lake.tenant, 6)))["error"] == "stale_epoch"
    stale = await lakes.host.ask("kill", tenant=lake.tenant, epoch=6, signal="KILL")
    assert stale["error"] == "stale_epoch"
    assert is_alive(lake.pid)


async def test_killing_an_unknown_tenant_finds_nothing(host: HostClient) -> None:
    assert await host.ask("kill", tenant=str(uuid.uuid4()), epoch=1) == {"ok": True, "found": False}


async def test_a_killed_runtime_is_reported_as_a_crash_and_comes_back(lakes: Lakes) -> None:
    lake = await lakes.start()
    os.kill(lake.pid, 9)
    event = await lakes.host.exit_of(lake.pid)
    assert event == {
        "event": "exit",
        "tenant": lake.tenant,
        "epoch": 1,
        "pid": lake.pid,
        "reason": "crash",
        "status": -9,
    }
    assert not lake.socket.exists()
    again = await lakes.start(lake.tenant, 2)
    await again.configure()
    assert await again.rows("select 1 as x") == [{"x": 1}]


async def test_a_terminated_runtime_ends_with_zero_and_leaves_no_socket(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure()
    await lakes.host.ask("kill", tenant=lake.tenant, epoch=1, signal="TERM")
    event = await lakes.host.exit_of(lake.pid)
    assert (event["reason"], event["status"]) == ("stopped", 0)
    assert not lake.socket.exists()


async def test_stop_drains_the_running_answer_and_exits_zero(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure()
    slow = asyncio.create_task(
        lake.sql(
            "select sum(a.value * b.value) as s from generate_series(1, 20000) a, generate_series(1, 5000) b"
        )
    )
    await asyncio.sleep(0.1)
    assert await lake.request("POST", "/stop", {"drainSeconds": 20}) == (200, {"ok": True})
    assert (await slow)[0] == 200
    event = await lakes.host.exit_of(lake.pid)
    assert (event["reason"], event["status"]) == ("stopped", 0)


async def test_a_request_without_the_secret_is_401(lake: RuntimeClient) -> None:
    connector = aiohttp.UnixConnector(path=str(lake.socket))
    async with aiohttp.ClientSession(connector=connector) as stranger:
        for headers in ({}, {"x-weir-runtime-secret": "wrong"}):
            async with stranger.get("http://lake/status", headers=headers) as response:
                assert response.status == 401
                assert (await response.json())["code"] == "unauthorized"


async def test_both_sockets_belong_to_their_owner_alone(lake: RuntimeClient, host: HostClient) -> None:
    for path in (lake.socket, host.path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_runtime_has_none_of_the_hosts_files_and_limits_of_its_own(lakes: Lakes) -> None:
    first = await lakes.start()
    second = await lakes.start()
    await second.configure()
    theirs = unix_sockets(second.pid)
    assert str(first.socket) not in theirs
    assert str(lakes.host.path) not in theirs
    assert "Max core file size 0 0" in limits(second.pid)
    assert "Max open files 1024 1024" in limits(second.pid)


async def test_a_runtime_comes_after_the_services_of_its_machine(lake: RuntimeClient) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, lake.pid) == min(19, ours + 5)


async def test_the_list_names_every_living_runtime(lakes: Lakes) -> None:
    lake = await lakes.start(epoch=3)
    listed = (await lakes.host.ask("list"))["runtimes"]
    mine = next(r for r in listed if r["tenant"] == lake.tenant)
    assert (mine["pid"], mine["epoch"], mine["endedFor"]) == (lake.pid, 3, "")
    assert mine["rssBytes"] > 0


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"op":"dance"}', b'{"op":"spawn"}', b"\xff", b"[" * 50_000])
async def test_a_line_that_is_no_request_is_answered_and_the_host_lives(
    host: HostClient, line: bytes
) -> None:
    reader, writer = await asyncio.open_unix_connection(str(host.path))
    writer.write(line + b"\n")
    assert b'"invalid_request"' in await reader.readline()
    writer.close()
    assert (await host.ask("ping"))["ok"]


async def test_a_socket_path_that_cannot_be_bound_is_an_error(lakes: Lakes) -> None:
    order = lakes.order(str(uuid.uuid4())) | {"socket": "/nowhere/at/all.sock"}
    assert (await lakes.host.ask("spawn", **order))["error"] == "socket_failed"


async def test_many_lives_leave_the_host_no_larger(lakes: Lakes) -> None:
    pid = (await lakes.host.ask("ping"))["pid"]
    for _ in range(3):
        lake = await lakes.start()
        os.kill(lake.pid, 9)
        await lakes.host.exit_of(lake.pid)
    before = len(open_files(pid)), resident_bytes(pid)
    for _ in range(15):
        lake = await lakes.start()
        os.kill(lake.pid, 9)
        await lakes.host.exit_of(lake.pid)
    after = len(open_files(pid)), resident_bytes(pid)
    assert after[0] == before[0]
    assert after[1] - before[1] < 1024 * 1024
