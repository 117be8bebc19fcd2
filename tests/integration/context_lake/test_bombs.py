"""A query ends by its deadline, its work with it, and nobody else is the worse for it."""

import asyncio
import itertools
import os
import time
from pathlib import Path
from typing import Any

import pytest
from tests.integration.context_lake.bombs import BOMBS
from tests.integration.context_lake.test_lifecycle import pid_of
from tests.promises import Promise

DEADLINE_SECONDS = 5
RETURNS_WITHIN_SECONDS = 10
TYPED = {"timeout", "vm_error", "resource_exhausted", "engine_error", "sql_error"} | {
    "query_too_complex",
    "query_too_large",
}


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def is_at_rest(lake: Any, tenant_id: str) -> bool:
    """Whether the tenant's process is gone, or spends next to nothing."""
    pid = await pid_of(lake, tenant_id)
    if pid is None:
        return True
    try:
        before = cpu_seconds(pid)
        await asyncio.sleep(0.2)
        return cpu_seconds(pid) - before <= 0.02
    except OSError:
        return True


async def drop(lake: Any, tenant_id: str, name: str) -> str:
    """Asks one bomb; what went wrong, or nothing."""
    # A caller's ticket is good for a minute: each bomb has its own.
    async with lake.caller(tenant_id) as caller:
        started = time.monotonic()
        answer = await caller.sql(BOMBS[name], timeoutSeconds=DEADLINE_SECONDS)
        took = time.monotonic() - started
        if took > DEADLINE_SECONDS + 1:
            return f"{name}: ended after {took:.1f} s"
        if answer.status_code != 200 and answer.json()["code"] not in TYPED:
            return f"{name}: {answer.status_code} {answer.text[:200]}"
        until = time.monotonic() + RETURNS_WITHIN_SECONDS
        while not await is_at_rest(lake, tenant_id):
            if time.monotonic() > until:
                return f"{name}: its work goes on"
        again = await caller.sql("select 1 as one", timeoutSeconds=max(1, until - time.monotonic()))
        if again.status_code != 200:
            return f"{name}: afterwards {again.status_code} {again.text[:200]}"
        print(f"{took:5.1f} s  {answer.status_code}  {name}")
        return ""


async def live_beside(lake: Any, tenant_id: str, waits: list[float]) -> None:
    """A tenant's ordinary queries, one after the other; how long each took."""
    for n in itertools.count():
        async with lake.caller(tenant_id) as caller:
            started = time.monotonic()
            assert await caller.rows(f"select count(*) + {n} as n from ones") == [{"n": 1000 + n}]
            waits.append(time.monotonic() - started)
        await asyncio.sleep(0.05)


@pytest.mark.promise("P7")
async def test_a_bomb_ends_by_its_deadline_and_hurts_nobody_else(
    lake: Any, caller: Any, other: Any, another_tenant_id: str, promise: Promise
) -> None:
    await other.add("ones", other.parquet("ones", [{"x": n} for n in range(1000)]))
    await other.rows("select count(*) from ones")
    epoch = (await other.vm())["epoch"]
    waits: list[float] = []
    neighbour = asyncio.create_task(live_beside(lake, other.tenant_id, waits))
    # Two tenants share the bombs, for the test to take half its time.
    names, faults = iter(BOMBS), list[str]()

    async def bomb(tenant_id: str) -> None:
        faults.extend([fault for name in names if (fault := await drop(lake, tenant_id, name))])

    await asyncio.gather(bomb(caller.tenant_id), bomb(another_tenant_id))
    assert not neighbour.done(), neighbour.exception()
    neighbour.cancel()
    assert len(BOMBS) >= 30
    assert faults == []
    assert (await other.vm())["epoch"] == epoch
    waits.sort()
    p99 = waits[int(len(waits) * 0.99)]
    told = f"neighbour: {len(waits)} queries, p99 {p99:.2f} s, worst {waits[-1]:.2f} s"
    promise.held(f"{len(BOMBS)} bombs, all bounded, CPU after 0; {told}")
    assert p99 < 2
