"""The runtime's life: woken, hibernated, lost, brought back."""

import asyncio
import os
import signal
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.integration.context_lake.conftest import eventually, working
from tests.serving import served

from weir.context_lake import jobs
from weir.context_lake.app import create_app
from weir.worker.app import open_context
from weir_shared.telemetry.metrics import REGISTRY

ROWS = [{"id": 1, "name": "Alice"}, {"id": 2, "name": "Bob"}]
SLOW = "select count(*) from numbers a, numbers b, numbers c, numbers d where a.id + b.id + c.id < d.id"


async def pid_of(lake: Any, tenant_id: str) -> int | None:
    """The runtime's process as the host knows it."""
    from weir.context_lake.vms.providers.process import ProcessHost

    living = await ProcessHost(lake.settings).list()
    return next((runtime.pid for runtime in living if runtime.tenant == tenant_id), None)


def boots() -> float:
    return REGISTRY.get_sample_value("weir_lake_vm_boot_seconds_count") or 0


async def test_fifty_cold_queries_boot_the_lake_once(caller: Any) -> None:
    before = boots()
    answers = await asyncio.gather(*(caller.sql(f"select {n} as n") for n in range(50)))
    assert [answer.json()["rows"] for answer in answers] == [[{"n": n}] for n in range(50)]
    assert (await caller.vm())["epoch"] == 1
    assert boots() == before + 1


async def test_a_stopped_lake_sleeps_and_a_query_wakes_it(lake: Any, caller: Any) -> None:
    await caller.add("people", caller.parquet("people", ROWS))
    await caller.rows("select * from people")
    assert (await caller.status())["datasets"]["people"]["status"] == "ready"
    stopped = await caller.http.post("/stop")
    assert (stopped.status_code, stopped.json()["ok"]) == (202, True)
    await caller.until("paused")
    status = await caller.status()
    assert status["datasets"]["people"] == {
        "ok": True,
        "status": "unknown",
        "connectorId": "file",
        "notifications": False,
        "lastLoadedAt": None,
    }
    await eventually(lambda: gone(lake, caller.tenant_id))
    assert (await caller.http.post("/stop")).status_code == 200
    assert await caller.rows("select count(*) as n from people") == [{"n": 2}]
    assert (await caller.status())["vmStatus"] == "running"
    assert (await caller.vm())["epoch"] == 2


async def gone(lake: Any, tenant_id: str) -> bool:
    return await pid_of(lake, tenant_id) is None


async def test_a_query_that_comes_while_the_lake_falls_asleep_is_answered(caller: Any) -> None:
    await caller.rows("select 1 as one")
    await caller.http.post("/stop")
    assert await caller.rows("select 1 as one") == [{"one": 1}]


async def test_start_brings_the_lake_up(caller: Any) -> None:
    answer = await caller.http.post("/start")
    assert (answer.status_code, answer.json()) == (202, {"ok": True, "vmStatus": "provisioning"})
    await caller.until("running")
    assert (await caller.http.post("/start")).status_code == 200
    assert (await caller.vm())["epoch"] == 1


async def test_start_may_be_waited_for(caller: Any) -> None:
    answer = await caller.http.post("/start?wait=30")
    assert (answer.status_code, answer.json()["vmStatus"]) == (200, "running")
    assert (await caller.http.post("/start?wait=9999")).status_code == 400


async def test_what_is_added_is_queryable_at_once(caller: Any) -> None:
    await caller.rows("select 1 as one")
    for n in range(3):
        await caller.add(f"t{n}", caller.parquet(f"t{n}", [{"n": n}]))
        assert await caller.rows(f"select n from t{n}") == [{"n": n}]
    await caller.http.delete("/datasets/t0")
    assert (await caller.sql("select n from t0")).json()["code"] == "sql_error"
    await caller.http.put("/datasets/t1", json={"from": caller.parquet("t2", [{"n": 9}])})
    assert await caller.rows("select n from t1") == [{"n": 9}]


async def test_what_is_added_shows_in_the_status_without_a_query(caller: Any) -> None:
    await caller.rows("select 1 as one")
    await caller.add("people", caller.parquet("people", ROWS))

    async def ready() -> bool:
        status = await caller.status()
        return status["datasets"]["people"]["status"] == "ready" and not status["drift"]

    await eventually(ready)


async def test_a_killed_runtime_is_replaced_by_the_next_query(lake: Any, caller: Any) -> None:
    await caller.add("people", caller.parquet("people", ROWS))
    await caller.rows("select * from people")
    for _ in range(3):
        pid = await pid_of(lake, caller.tenant_id)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert await caller.rows("select count(*) as n from people") == [{"n": 2}]


async def test_a_query_whose_runtime_is_killed_is_asked_once_more(lake: Any, caller: Any) -> None:
    await caller.add("numbers", caller.parquet("numbers", [{"id": n} for n in range(3000)]))
    await caller.rows("select count(*) from numbers")
    asking = asyncio.create_task(caller.sql(SLOW, timeoutSeconds=3))
    await asyncio.sleep(0.4)
    os.kill(await pid_of(lake, caller.tenant_id), signal.SIGKILL)
    answer = await asking
    assert (answer.status_code, answer.json()["phase"]) == (504, "executing")
    assert (await caller.vm())["epoch"] == 2


async def test_a_query_that_loses_two_runtimes_is_503(lake: Any, caller: Any) -> None:
    await caller.add("numbers", caller.parquet("numbers", [{"id": n} for n in range(3000)]))
    await caller.rows("select count(*) from numbers")
    asking = asyncio.create_task(caller.sql(SLOW, timeoutSeconds=20))
    while not asking.done():
        await asyncio.sleep(0.4)
        if (pid := await pid_of(lake, caller.tenant_id)) and not asking.done():
            os.kill(pid, signal.SIGKILL)
    answer = await asking
    assert (answer.status_code, answer.json()["code"]) == (503, "vm_error")
    assert await caller.rows("select count(*) as n from numbers") == [{"n": 3000}]


async def test_a_dead_runtime_is_found_without_a_query(lake: Any, caller: Any) -> None:
    await caller.rows("select 1 as one")
    os.kill(await pid_of(lake, caller.tenant_id), signal.SIGKILL)
    await caller.until("paused", within=8)
    assert (await caller.vm())["cause"] in ("crash", "gone")


async def test_a_source_that_fails_marks_only_its_own_dataset(caller: Any) -> None:
    await caller.add("people", caller.parquet("people", ROWS))
    await caller.add("broken", "file:there/is/nothing.parquet")
    assert await caller.rows("select count(*) as n from people") == [{"n": 2}]
    failed = await caller.sql("select * from broken")
    assert (failed.status_code, failed.json()["code"]) == (502, "source_error")
    assert failed.json()["dataset"] == "broken"
    datasets = (await caller.status())["datasets"]
    assert (datasets["people"]["ok"], datasets["people"]["status"]) == (True, "ready")
    assert (datasets["broken"]["ok"], datasets["broken"]["status"]) == (False, "error")
    assert datasets["broken"]["error"]["message"]


async def test_two_tenants_with_the_same_names_see_their_own_rows(caller: Any, other: Any) -> None:
    for tenant, name in ((caller, "Alice"), (other, "Bob")):
        await tenant.add("people", tenant.parquet("people", [{"name": name}]))
    for _ in range(2):
        assert await caller.rows("select * from people") == [{"name": "Alice"}]
        assert await other.rows("select * from people") == [{"name": "Bob"}]


async def test_tables_tell_columns_and_what_cannot_be_read(caller: Any) -> None:
    await caller.add("people", caller.parquet("people", ROWS), description="Everyone")
    await caller.add("broken", "file:nothing.parquet")
    tables = (await caller.http.get("/tables")).json()["tables"]
    assert {table["name"]: (table["kind"], table["description"]) for table in tables} == {
        "people": ("dataset", "Everyone"),
        "broken": ("dataset", None),
    }
    people, broken = sorted(tables, key=lambda table: table["name"], reverse=True)
    assert [column["name"] for column in people["columns"]] == ["id", "name"]
    assert broken["error"]
    assert broken["columns"] is None


async def test_redeploy_reads_the_sources_again(caller: Any) -> None:
    assert (await caller.http.post("/redeploy")).json() == {"ok": True, "version": 0, "applied": False}
    await caller.add("people", caller.parquet("people", ROWS))
    await caller.rows("select * from people")
    caller.parquet("people", [{"id": 1, "name": "Alice", "town": "Oslo"}])
    answer = await caller.http.post("/redeploy")
    assert (answer.status_code, answer.json()["applied"]) == (200, True)
    assert await caller.rows("select town from people") == [{"town": "Oslo"}]


async def test_a_stale_boot_and_a_zombie_do_nothing(lake: Any, caller: Any) -> None:
    await caller.rows("select 1 as one")
    await caller.stop()
    await caller.rows("select 1 as one")
    pid = await pid_of(lake, caller.tenant_id)
    async with open_context(lake.settings) as context:
        for epoch in (0, 1, 2, 3):
            await jobs.start_vm(context, tenant_id=caller.tenant_id, epoch=epoch)
        await jobs.stop_vm(context, tenant_id=caller.tenant_id, epoch=1)
        await jobs.bury_dead_any(context)
    assert await pid_of(lake, caller.tenant_id) == pid
    vm = await caller.vm()
    assert (vm["state"], vm["epoch"]) == ("running", 2)


async def test_a_process_that_no_row_tells_of_is_ended(lake: Any) -> None:
    from weir.context_lake.vms.providers.process import ProcessHost

    stray = str(uuid.uuid4())
    await ProcessHost(lake.settings).spawn(stray, 7, "0" * 64)
    assert await pid_of(lake, stray) is not None
    await eventually(lambda: gone(lake, stray), within=8)


async def test_an_idle_lake_falls_asleep_and_a_busy_one_does_not(lake: Any, caller: Any, other: Any) -> None:
    for tenant in (caller, other):
        await tenant.rows("select 1 as one")
    await other.add("numbers", other.parquet("numbers", [{"id": n} for n in range(2000)]))
    await other.rows("select count(*) from numbers")
    asking = asyncio.create_task(other.sql(SLOW, timeoutSeconds=20))
    await asyncio.sleep(0.3)
    async with lake.database.any_tenant() as connection:
        await connection.execute(
            "update lake_vms set last_activity_at = now() - interval '1 hour' where tenant_id = any($1)",
            [caller.tenant_id, other.tenant_id],
        )
    await caller.until("paused")
    assert (await other.status())["vmStatus"] == "running"
    asking.cancel()


async def test_a_deadline_while_the_lake_boots_is_504_and_says_provisioning(
    lake: Any, caller: Any, settings_of: Any
) -> None:
    # A database of its own, so that nobody hears the ring.
    deaf = settings_of(redis_url=urlsplit(lake.settings.redis_url)._replace(path="/13").geturl())
    async with served(create_app(deaf)) as url, lake.caller(caller.tenant_id, url=url) as asker:
        async with lake.database.any_tenant() as connection:
            await connection.execute(
                "insert into lake_vms (tenant_id, state, epoch, lease_until) "
                "values ($1, 'provisioning', 1, now() + interval '1 minute')",
                caller.tenant_id,
            )
        started = time.monotonic()
        answer = await asker.sql("select 1", timeoutSeconds=1)
        assert 0.95 < time.monotonic() - started < 1.5
    body = answer.json()
    assert (answer.status_code, body["code"], body["phase"]) == (504, "timeout", "provisioning")
    assert answer.headers["retry-after"] == "15"


async def test_a_stop_while_the_lake_boots_is_409_unless_forced(lake: Any, caller: Any) -> None:
    async with lake.database.any_tenant() as connection:
        await connection.execute(
            "insert into lake_vms (tenant_id, state, epoch, lease_until) "
            "values ($1, 'provisioning', 1, now() + interval '1 minute')",
            caller.tenant_id,
        )
    refused = await caller.http.post("/stop")
    assert (refused.status_code, refused.json()["code"]) == (409, "vm_busy")
    assert (await caller.http.post("/stop?force=true")).status_code == 202
    await caller.until("paused")


async def test_a_boot_that_nobody_serves_is_rung_for_again(lake: Any, caller: Any) -> None:
    async with lake.database.any_tenant() as connection:
        await connection.execute(
            "insert into lake_vms (tenant_id, state, epoch, updated_at) "
            "values ($1, 'provisioning', 1, now() - interval '1 minute')",
            caller.tenant_id,
        )
    await caller.until("running", within=8)


async def test_a_boot_that_fails_is_503_at_once_and_works_when_the_host_is_back(
    lake: Any, caller: Any
) -> None:
    lake.host.stop()
    try:
        started = time.monotonic()
        answer = await caller.sql("select 1 as one")
        assert time.monotonic() - started < 3
        assert (answer.status_code, answer.json()["code"]) == (503, "vm_error")
        assert (await caller.status())["vmStatus"] == "error"
    finally:
        lake.host.start()
    assert await caller.rows("select 1 as one") == [{"one": 1}]


async def test_runtimes_that_died_with_their_host_are_brought_back(lake: Any, caller: Any) -> None:
    await caller.rows("select 1 as one")
    lake.host.stop()
    lake.host.start()
    assert await caller.rows("select 1 as one") == [{"one": 1}]


@pytest.mark.slow
async def test_several_workers_and_desks_boot_a_lake_once(lake: Any, caller: Any) -> None:
    async with (
        working(lake.settings),
        working(lake.settings),
        served(create_app(lake.settings)) as url,
        lake.caller(caller.tenant_id, url=url) as second,
    ):
        askers = [caller, second] * 20
        answers = await asyncio.gather(*(asker.sql("select 1 as one") for asker in askers))
    assert {answer.status_code for answer in answers} == {200}
    assert (await caller.vm())["epoch"] == 1
