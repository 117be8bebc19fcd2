"""A query ends by its deadline, and its work with it; a runtime's death hurts one tenant, once."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from .conftest import MEBIBYTE, Lakes, RuntimeClient

NESTED_LOOP = (
    "select count(*) from generate_series(1, 10000000) a join generate_series(1, 10000000) b "
    "on a.value * 3 < b.value * 2"
)
AGGREGATE = "select count(*), sum(value % 7) from generate_series(1, 1000000000000)"


async def test_a_query_past_its_deadline_is_504_and_the_process_is_gone(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure()
    started = time.monotonic()
    status, body = await lake.sql(NESTED_LOOP, seconds=1.0)
    assert time.monotonic() - started < 1.5
    assert (status, body["code"], body["phase"]) == (504, "timeout", "executing")
    event = await lakes.host.exit_of(lake.pid, within=4)
    assert event["reason"] == "deadline"
    again = await lakes.start(lake.tenant, 2)
    await again.configure()
    assert await again.rows("select 1 as x") == [{"x": 1}]


async def test_a_cancellable_query_past_its_deadline_leaves_the_process_alive_and_idle(
    lake: RuntimeClient,
) -> None:
    status, body = await lake.sql(AGGREGATE, seconds=0.5)
    assert (status, body["code"]) == (504, "timeout")
    await asyncio.sleep(1.5)
    before = lake.cpu_seconds()
    await asyncio.sleep(0.5)
    assert lake.cpu_seconds() - before < 0.1
    assert await lake.rows("select 1 as x") == [{"x": 1}]


async def test_another_query_answers_while_one_is_stuck(lake: RuntimeClient) -> None:
    stuck = asyncio.create_task(lake.sql(NESTED_LOOP, seconds=1.5))
    await asyncio.sleep(0.3)
    started = time.monotonic()
    assert await lake.rows("select 1 as x") == [{"x": 1}]
    assert time.monotonic() - started < 1.0
    assert (await stuck)[0] == 504


async def test_a_client_that_leaves_ends_its_query(lake: RuntimeClient) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(lake.sql(AGGREGATE, seconds=60), 0.5)
    await asyncio.sleep(0.5)
    assert (await lake.status())["activeQueries"] == 0
    before = lake.cpu_seconds()
    await asyncio.sleep(0.5)
    assert lake.cpu_seconds() - before < 0.1


async def test_a_client_that_leaves_a_stubborn_query_has_the_process_ended(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure()
    before = lake.cpu_seconds()
    stubborn = asyncio.create_task(lake.sql(NESTED_LOOP, seconds=60))
    while lake.cpu_seconds() - before < 0.5:  # planned, and the join runs
        await asyncio.sleep(0.02)
    stubborn.cancel()
    assert (await lakes.host.exit_of(lake.pid, within=15))["reason"] == "deadline"


@pytest.mark.parametrize(
    "bomb",
    [
        "select sum(length(repeat(cast(value as varchar), 2000000))) from generate_series(1, 100000)",
        "select length(repeat('x', 2000000000))",
        "select length(rpad('x', 2000000000, 'y'))",
        "select array_length(range(0, 1000000000))",
    ],
)
async def test_a_memory_bomb_ends_one_runtime_and_no_other(lakes: Lakes, bomb: str) -> None:
    lake, neighbour = await lakes.start(memory=400 * MEBIBYTE), await lakes.start()
    await lake.configure()
    await neighbour.configure()
    bombed = asyncio.create_task(lake.sql(bomb, seconds=10))
    slowest = 0.0
    while not bombed.done():
        started = time.monotonic()
        assert await neighbour.rows("select 1 as x") == [{"x": 1}]
        slowest = max(slowest, time.monotonic() - started)
        await asyncio.sleep(0.02)
    assert slowest < 1.0
    try:
        status, body = await bombed
    except aiohttp.ClientError:
        assert (await lakes.host.exit_of(lake.pid))["reason"] in ("memory", "crash")
        again = await lakes.start(lake.tenant, 2)
        await again.configure()
        assert await again.rows("select 1 as x") == [{"x": 1}]
    else:
        assert status in (400, 500), body


async def test_a_runtime_over_its_memory_is_killed_for_memory(lakes: Lakes) -> None:
    lake = await lakes.start(memory=300 * MEBIBYTE)
    await lake.configure()
    with pytest.raises(aiohttp.ClientError):
        await lake.sql(
            "select sum(length(repeat(cast(value as varchar), 20000))) from generate_series(1, 3000000)"
        )
    event = await lakes.host.exit_of(lake.pid)
    assert (event["reason"], event["status"]) == ("memory", -9)


async def test_a_query_over_its_memory_pool_is_400_and_the_process_lives(lakes: Lakes) -> None:
    lake = await lakes.start(memory=400 * MEBIBYTE)
    await lake.configure()
    status, body = await lake.sql("select array_agg(value) from generate_series(1, 100000000)", seconds=60)
    assert (status, body["code"]) == (400, "resource_exhausted"), body
    assert await lake.rows("select 1 as x") == [{"x": 1}]


@pytest.mark.usefixtures("eventually")
async def test_an_endless_recursion_is_cut_at_its_deadline(
    lake: RuntimeClient, eventually: Callable[..., Awaitable[None]]
) -> None:
    status, _ = await lake.sql(
        "with recursive r as (select 1 as x union all select x + 1 from r) select count(*) from r",
        seconds=0.5,
    )
    assert status == 504
