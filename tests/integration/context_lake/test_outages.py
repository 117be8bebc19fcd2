"""The database or Redis goes away: what is still answered, for how long, and what comes back by itself."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.fakes.fault_proxy import FaultProxy, fault_proxy
from tests.integration.context_lake.conftest import new_tenant
from tests.serving import served

from weir.context_lake.app import create_app
from weir.context_lake.vms import waking
from weir_shared.auth.scopes import LAKE_SCOPES
from weir_shared.queue.doorbell import open_doorbell

ROWS = [{"id": 1}, {"id": 2}]


@pytest.fixture
async def wire(lake: Any) -> AsyncIterator[FaultProxy]:
    """A way to the database that can be cut."""
    parts = urlsplit(lake.settings.database_url)
    async with fault_proxy(parts.hostname, parts.port) as proxy:
        yield proxy


@pytest.mark.parametrize("scopes", [LAKE_SCOPES, ("lake:read", "lake:query")])
async def test_without_its_database_the_desk_answers_known_callers_for_a_minute(
    lake: Any, caller: Any, settings_of: Any, wire: FaultProxy, scopes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await caller.add("people", caller.parquet("people", ROWS))
    async with (
        served(create_app(settings_of(database_url=wire.in_url(lake.settings.database_url)))) as url,
        lake.caller(caller.tenant_id, scopes, url=url) as known,
        lake.caller(await new_tenant(lake), scopes, url=url) as stranger,
    ):
        query = "select count(*) as n from people"
        assert await known.rows(query) == [{"n": 2}]
        await wire.set("cut")
        for n in range(3):
            assert await known.rows(f"{query} where id < {10 + n}") == [{"n": 2}]
        for answer in (await known.http.get("/config"), await known.http.get("/status")):
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
            assert answer.headers["retry-after"]
        refused = await stranger.sql("select 1 as one")
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        # A minute later.
        monkeypatch.setattr(waking, "OUTAGE_SECONDS", -1)
        late = await known.sql(query)
        assert (late.status_code, late.json()["code"]) == (503, "database_unavailable")
        await wire.set("good")
        assert await known.rows(query) == [{"n": 2}]
        assert (await known.http.get("/config")).status_code == 200
        assert await stranger.rows("select 1 as one") == [{"one": 1}]


async def test_a_storm_while_redis_is_emptied_boots_once(lake: Any, caller: Any, settings_of: Any) -> None:
    """Every ring and every notice is lost: the row decides, and the sweep finds it."""
    own = settings_of(redis_url=urlsplit(lake.settings.redis_url)._replace(path="/11").geturl())
    redis = await open_doorbell(own.redis_url)

    async def empty() -> None:
        while True:
            await redis.redis.flushdb()
            await asyncio.sleep(0.01)

    emptying = asyncio.create_task(empty())
    try:
        async with served(create_app(own)) as url, lake.caller(caller.tenant_id, url=url) as asker:
            answers = await asyncio.gather(*(asker.sql(f"select {n} as n") for n in range(50)))
    finally:
        emptying.cancel()
        await redis.close()
    assert [answer.json().get("rows") for answer in answers] == [[{"n": n}] for n in range(50)]
    assert (await caller.vm())["epoch"] == 1


async def test_a_storm_without_any_redis_boots_once(lake: Any, caller: Any, settings_of: Any) -> None:
    """It goes away when the desk is up; desks poll the row, and the other worker's sweep rings for itself."""
    parts = urlsplit(lake.settings.redis_url)
    async with fault_proxy(parts.hostname, parts.port) as relay:
        own = settings_of(redis_url=relay.in_url(lake.settings.redis_url))
        async with served(create_app(own)) as url, lake.caller(caller.tenant_id, url=url) as asker:
            assert (await asker.http.get("/status")).status_code == 200
            await relay.set("cut")
            answers = await asyncio.gather(*(asker.sql(f"select {n} as n") for n in range(50)))
    assert [answer.json().get("rows") for answer in answers] == [[{"n": n}] for n in range(50)]
    assert (await caller.vm())["epoch"] == 1
