"""Each tenant has one runtime: a rush starts it once, and its death is nobody else's."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from tests.integration.context_lake.conftest import new_tenant
from tests.promises import Promise, size

from weir.context_lake.vms.providers.process import ProcessHost

RUSH = 100
TENANTS = 20
UNDER_LOAD = 10
KILLS = size(20, 200)
# More than a runtime's start takes on a machine that has much else to do.
PATIENCE_SECONDS = 30


@pytest.fixture
async def crowd(lake: Any) -> AsyncIterator[list[Any]]:
    """Callers of fresh tenants."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(lake.caller(await new_tenant(lake))) for _ in range(TENANTS)]


@pytest.mark.promise("P6")
async def test_a_rush_of_cold_queries_starts_one_runtime_for_each_tenant(
    lake: Any, caller: Any, crowd: list[Any], promise: Promise
) -> None:
    refused = 0

    async def asked(asker: Any, n: int) -> Any:
        """The rows; who is refused a place comes again when he was told to."""
        nonlocal refused
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (answer := await asker.sql(f"select {n} as n")).status_code == 429:
                assert answer.json()["code"] == "too_many_queries"
                refused += 1
                await asyncio.sleep(float(answer.headers["retry-after"]))
        assert answer.status_code == 200, answer.text
        return answer.json()["rows"]

    assert await asyncio.gather(*(asked(caller, n) for n in range(RUSH))) == [[{"n": n}] for n in range(RUSH)]
    assert await starts(lake, caller) == 1
    many = [(asker, n) for n in range(RUSH // TENANTS) for asker in crowd]
    assert await asyncio.gather(*(asked(*one) for one in many)) == [[{"n": n}] for _, n in many]
    each = [await starts(lake, asker) for asker in crowd]
    assert each == [1] * TENANTS
    promise.held(
        f"{RUSH} cold queries of 1 tenant: 1 start ({refused} came again after 429); "
        f"{len(many)} of {TENANTS} tenants: {sum(each)} starts, 1 each; every answer right"
    )


@pytest.mark.promise("P8")
async def test_a_runtime_that_is_killed_under_load_costs_its_own_tenant_one_answer(
    lake: Any, crowd: list[Any], promise: Promise
) -> None:
    victim, *others = crowd[:UNDER_LOAD]
    await asyncio.gather(*(asker.rows("select 1 as one") for asker in crowd[:UNDER_LOAD]))
    answered, owned, over = 0, {200: 0, 503: 0}, asyncio.Event()

    async def load(asker: Any) -> None:
        nonlocal answered
        while not over.is_set():
            answered += 1
            mine = answered
            assert await asker.rows(f"select {mine} as n") == [{"n": mine}]
            await asyncio.sleep(0.05)

    loads = [asyncio.create_task(load(asker)) for asker in others]
    for kill in range(KILLS):
        many = "(select unnest(range(0, 2000)) as v)"
        query = f"select sum(a.v + b.v) > {kill} as n from {many} a, {many} b"
        asking = asyncio.create_task(victim.sql(query))
        await asyncio.sleep(0.05)
        [pid] = [r.pid for r in await ProcessHost(lake.settings).list() if is_runtime_of(r, victim)]
        os.kill(pid, signal.SIGKILL)
        answer: httpx.Response = await asking
        assert answer.status_code in owned, answer.text
        if answer.status_code == 503:
            assert answer.json()["code"] == "vm_error"
        owned[answer.status_code] += 1
        assert await victim.rows("select 2 as two") == [{"two": 2}]
    over.set()
    await asyncio.gather(*loads)
    assert answered > KILLS
    assert {(await asker.vm())["epoch"] for asker in others} == {1}
    promise.held(
        f"{KILLS} kills: 0 errors in {answered} queries of {len(others)} other tenants; its owner's query "
        f"was answered {owned[200]} times, told 503 vm_error {owned[503]} times, and the next one always worked"
    )


async def starts(lake: Any, asker: Any) -> int:
    living = [runtime for runtime in await ProcessHost(lake.settings).list() if is_runtime_of(runtime, asker)]
    assert len(living) == 1
    return (await asker.vm())["epoch"]


def is_runtime_of(runtime: Any, asker: Any) -> bool:
    return runtime.tenant == asker.tenant_id and not runtime.endedFor
