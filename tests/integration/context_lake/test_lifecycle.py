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
    return next(
        (runtime.pid for runtime in living if runtime.tenant == tenant_id and not runtime.endedFor), None
    )


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
        "schemaHash": None,
        "applied": None,
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
    await caller.add("people", caller.parquet("people", ROWS))
    await caller.rows("select * from people")
    caller.parquet("people", [{"id": 1, "name": "Alice", "town": "Oslo"}])
    answer = await caller.http.post("/redeploy")
    assert (answer.status_code, answer.json()) == (202, {"ok": True, "version": 1, "applied": False})
    assert await caller.rows("select town from people") == [{"town": "Oslo"}]


async def test_a_redeploy_may_be_waited_for(caller: Any) -> None:
    await caller.add("people", caller.parquet("people", ROWS))
    await caller.rows("select * from people")
    before = (await caller.status())["datasets"]["people"]["schemaHash"]
    caller.parquet("people", [{"id": 1, "name": "Alice", "town": "Oslo"}])
    answer = await caller.http.post("/redeploy?wait=30")
    assert (answer.status_code, answer.json()) == (200, {"ok": True, "version": 1, "applied": True})

    async def read_anew() -> bool:
        return (await caller.status())["datasets"]["people"]["schemaHash"] not in (before, None)

    await eventually(read_anew)


async def test_a_redeploy_of_a_lake_that_sleeps_waits_for_its_start(caller: Any) -> None:
    answer = await caller.http.post("/redeploy")
    assert (answer.status_code, answer.json()) == (200, {"ok": True, "version": 0, "applied": False})
    await caller.add("people", caller.parquet("people", ROWS))
    await caller.rows("select * from people")
    await caller.stop()
    caller.parquet("people", [{"id": 1, "name": "Alice", "town": "Oslo"}])
    answer = await caller.http.post("/redeploy?wait=5")
    assert (answer.status_code, answer.json()) == (200, {"ok": True, "version": 1, "applied": False})
    assert (await caller.status())["vmStatus"] == "paused"
    assert await caller.rows("select town from people") == [{"town": "Oslo"}]


async def booting(lake: Any, caller: Any, *, seconds: int = 60, asked: int = 0) -> None:
    """A boot that somebody is at, for so long."""
    async with lake.database.any_tenant() as connection:
        await connection.execute(
            "insert into lake_vms (tenant_id, state, epoch, redeploys_asked, lease_until) "
            "values ($1, 'provisioning', 1, $3, now() + make_interval(secs => $2))",
            caller.tenant_id,
            float(seconds),
            asked,
        )


async def test_a_start_during_a_boot_joins_it(lake: Any, caller: Any) -> None:
    await booting(lake, caller, seconds=3)
    answer = await caller.http.post("/start")
    assert (answer.status_code, answer.json()) == (202, {"ok": True, "vmStatus": "provisioning"})
    assert (await caller.vm())["epoch"] == 1
    answers = await asyncio.gather(*(caller.http.post("/start?wait=20") for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert ((await caller.vm())["state"], (await caller.vm())["epoch"]) == ("running", 1)


async def test_a_start_that_takes_longer_than_it_is_waited_for_is_504(lake: Any, caller: Any) -> None:
    await booting(lake, caller)
    answer = await caller.http.post("/start?wait=1")
    assert (answer.status_code, answer.json()["phase"]) == (504, "provisioning")


async def test_a_redeploy_during_a_boot_is_done_with_it(lake: Any, caller: Any) -> None:
    await booting(lake, caller, seconds=2)
    answer = await caller.http.post("/redeploy")
    assert (answer.status_code, answer.json()["applied"]) == (202, False)
    await caller.until("running", within=8)
    vm = await caller.vm()
    assert (vm["epoch"], vm["redeploys_asked"], vm["redeploys_done"]) == (1, 1, 1)


async def test_a_redeploy_that_nobody_heard_is_rung_for_again(lake: Any, caller: Any) -> None:
    await caller.rows("select 1 as one")
    async with lake.database.any_tenant() as connection:
        await connection.execute(
            "update lake_vms set redeploys_asked = 1 where tenant_id = $1", caller.tenant_id
        )

    async def is_done() -> bool:
        return (await caller.vm())["redeploys_done"] == 1

    await eventually(is_done, within=8)


async def test_a_stop_may_be_waited_for_and_asked_twice(lake: Any, caller: Any) -> None:
    await caller.rows("select 1 as one")
    answers = await asyncio.gather(*(caller.http.post("/stop?wait=20") for _ in range(3)))
    assert {(answer.status_code, answer.json()["vmStatus"]) for answer in answers} == {(200, "paused")}
    assert await gone(lake, caller.tenant_id)
    assert (await caller.http.post("/stop?wait=20")).status_code == 200


async def test_without_auto_apply_a_version_waits_for_its_redeploy(caller: Any) -> None:
    assert (await caller.http.get("/settings")).json() == {"autoApply": True}
    await caller.add("people", caller.parquet("people", ROWS))
    await caller.rows("select * from people")
    assert (await caller.http.put("/settings", json={"autoApply": False})).json() == {"autoApply": False}
    await caller.add("towns", caller.parquet("towns", [{"town": "Oslo"}]))
    assert (await caller.sql("select * from towns")).json()["code"] == "sql_error"
    assert await caller.rows("select count(*) as n from people") == [{"n": 2}]
    status = await caller.status()
    assert (status["drift"], status["autoApply"]) == (True, False)
    assert (status["configVersion"], status["appliedVersion"]) == (2, 1)
    assert (await caller.http.post("/redeploy?wait=20")).json()["applied"] is True
    assert await caller.rows("select * from towns") == [{"town": "Oslo"}]
    assert (await caller.status())["drift"] is False


async def test_without_auto_apply_a_start_applies_the_newest_version(caller: Any) -> None:
    await caller.rows("select 1 as one")
    await caller.http.put("/settings", json={"autoApply": False})
    await caller.add("people", caller.parquet("people", ROWS))
    await caller.stop()
    assert await caller.rows("select count(*) as n from people") == [{"n": 2}]


async def test_auto_apply_that_is_switched_on_again_makes_good(caller: Any) -> None:
    await caller.rows("select 1 as one")
    await caller.http.put("/settings", json={"autoApply": False})
    await caller.add("people", caller.parquet("people", ROWS))
    await caller.http.put("/settings", json={"autoApply": True})

    async def applied() -> bool:
        return not (await caller.status())["drift"]

    await eventually(applied, within=15)


@pytest.mark.parametrize("body", [{}, {"autoApply": "yes"}, {"autoApply": True, "more": 1}, []])
async def test_settings_that_are_none_are_400(caller: Any, body: Any) -> None:
    assert (await caller.http.put("/settings", json=body)).status_code == 400
    assert (await caller.http.get("/settings")).json() == {"autoApply": True}


async def test_a_change_keeps_what_it_does_not_touch(caller: Any) -> None:
    for name in ("one", "two"):
        await caller.add(name, caller.parquet(name, ROWS))
    await caller.rows("select 1 from one, two")
    await caller.add("three", caller.parquet("three", ROWS))
    # Applied now, or the next version would be the one that loads it.
    await caller.rows("select 1 from three")
    await caller.http.post("/views", json={"name": "both", "sql": "select one.id from one, three"})
    await caller.rows("select * from both")
    status = await caller.status()
    told = {name: entry["applied"] for name, entry in status["datasets"].items()}
    # The view's own version kept all three.
    assert told == {"one": "kept", "two": "kept", "three": "kept"}
    assert status["views"]["both"]["applied"] == "loaded"
    await caller.http.put("/datasets/two", json={"from": caller.parquet("other", [{"n": 1}])})
    await caller.rows("select n from two")
    told = {name: entry["applied"] for name, entry in (await caller.status())["datasets"].items()}
    assert told == {"one": "kept", "two": "loaded", "three": "kept"}


async def test_a_version_whose_datasets_all_fail_is_applied_and_says_so(caller: Any) -> None:
    await caller.rows("select 1 as one")
    await caller.add("broken", "file:there/is/nothing.parquet")
    await caller.http.post("/views", json={"name": "over", "sql": "select * from broken"})
    await caller.sql("select * from over")

    async def told() -> Any:
        status = await caller.status()
        found = (status["datasets"]["broken"], status["views"]["over"])
        return status if all(entry["status"] == "error" for entry in found) else None

    status = await eventually(told)
    assert (status["drift"], status["appliedVersion"]) == (False, 2)
    assert status["datasets"]["broken"]["applied"] == status["views"]["over"]["applied"] == "failed"
    assert status["views"]["over"]["ok"] is False
    assert status["views"]["over"]["error"]["message"]
    assert await caller.rows("select 1 as one") == [{"one": 1}]


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


async def test_a_boot_that_outlasts_its_query_goes_on_and_the_patient_query_is_answered(
    lake: Any, caller: Any
) -> None:
    await booting(lake, caller, seconds=3)
    started = time.monotonic()
    hasty, patient = await asyncio.gather(
        caller.sql("select 1 as one", timeoutSeconds=1), caller.sql("select 1 as one", timeoutSeconds=20)
    )
    assert (hasty.status_code, hasty.json()["phase"]) == (504, "provisioning")
    assert (patient.status_code, patient.json()["rows"]) == (200, [{"one": 1}])
    assert 2 < time.monotonic() - started < 10
    assert (await caller.vm())["epoch"] == 1


async def test_a_runaway_query_costs_its_tenant_seconds_and_no_other_anything(
    lake: Any, caller: Any, other: Any
) -> None:
    await caller.add("numbers", caller.parquet("numbers", [{"id": n} for n in range(3000)]))
    await caller.rows("select count(*) from numbers")
    await other.rows("select 1 as one")
    before = await pid_of(lake, other.tenant_id)
    runaway = asyncio.create_task(caller.sql(SLOW, timeoutSeconds=2))
    while not runaway.done():
        assert await other.rows("select 1 as one") == [{"one": 1}]
        await asyncio.sleep(0.05)
    ended = time.monotonic()
    assert ((await runaway).status_code, (await runaway).json()["phase"]) == (504, "executing")
    assert await caller.rows("select count(*) as n from numbers") == [{"n": 3000}]
    assert time.monotonic() - ended < 10
    assert await pid_of(lake, other.tenant_id) == before


async def test_a_lease_is_counted_by_the_databases_clock(
    lake: Any, caller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose own clock is a day off neither takes a boot over too early nor holds one too long."""
    from weir.context_lake.vms.providers.process import ProcessHost

    real, left = time.time, []
    spawn = ProcessHost.spawn

    async def spawn_and_look(host: Any, tenant_id: str, *rest: Any) -> None:
        if tenant_id == caller.tenant_id:
            async with lake.database.any_tenant() as connection:
                left.append(
                    await connection.fetchval(
                        "select extract(epoch from lease_until - now())::float8 from lake_vms where tenant_id = $1",
                        tenant_id,
                    )
                )
        await spawn(host, tenant_id, *rest)

    monkeypatch.setattr(ProcessHost, "spawn", spawn_and_look)
    monkeypatch.setattr(time, "time", lambda: real() + 86_400)
    assert await caller.rows("select 1 as one") == [{"one": 1}]
    monkeypatch.setattr(time, "time", lambda: real() - 86_400)
    await caller.stop()
    assert await caller.rows("select 1 as one") == [{"one": 1}]
    assert len(left) == 2
    assert all(4 < seconds <= 6 for seconds in left)


async def test_a_worker_that_was_held_up_does_not_undo_what_another_did(
    lake: Any, caller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loses its lease while it starts a runtime; the next worker's boot stands, the same process serves."""
    from weir.context_lake.vms import keeping

    raise_up, release = keeping._raise_up, asyncio.Event()
    calls: list[int] = []

    async def held_up(*rest: Any) -> int:
        calls.append(1)
        version = await raise_up(*rest)
        if len(calls) == 1:
            await release.wait()
        return version

    monkeypatch.setattr(keeping, "_raise_up", held_up)
    asking = asyncio.create_task(caller.sql("select 1 as one"))
    async with asyncio.timeout(20):
        while len(calls) < 2:
            # Again and again: the one who is held up renews its lease meanwhile.
            async with lake.database.any_tenant() as connection:
                await connection.execute(
                    "update lake_vms set lease_until = now() - interval '1 second', "
                    "updated_at = now() - interval '1 minute' where tenant_id = $1 and state = 'provisioning'",
                    caller.tenant_id,
                )
            await asyncio.sleep(0.05)
    assert (await asking).status_code == 200
    pid = await pid_of(lake, caller.tenant_id)
    release.set()
    await asyncio.sleep(1)
    assert len(calls) == 2
    assert await pid_of(lake, caller.tenant_id) == pid
    assert ((await caller.vm())["state"], (await caller.vm())["epoch"]) == ("running", 1)


async def test_a_runtime_that_refuses_twice_is_brought_up_the_third_time(
    lake: Any, caller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weir.context_lake.vms import keeping
    from weir.context_lake.vms.providers.process import HostRefused

    raise_once, calls = keeping._raise_once, []

    async def refusing(*rest: Any) -> int:
        calls.append(1)
        if len(calls) < 3:
            raise HostRefused("spawn_failed", "no memory for a process")
        return await raise_once(*rest)

    monkeypatch.setattr(keeping, "_raise_once", refusing)
    before = boots()
    assert await caller.rows("select 1 as one") == [{"one": 1}]
    assert (len(calls), (await caller.vm())["epoch"], boots() - before) == (3, 1, 1)


async def test_a_swollen_runtime_is_replaced_when_it_is_idle(
    lake: Any, caller: Any, settings_of: Any
) -> None:
    await caller.add("people", caller.parquet("people", ROWS))
    await caller.rows("select * from people")
    pid = await pid_of(lake, caller.tenant_id)
    async with open_context(settings_of(vm_recycle_mib=2048)) as context:
        await jobs.replace_swollen_any(context)
    assert await pid_of(lake, caller.tenant_id) == pid
    async with open_context(settings_of(vm_recycle_mib=20)) as context:
        await jobs.replace_swollen_any(context)
    assert await caller.rows("select count(*) as n from people") == [{"n": 2}]
    assert await pid_of(lake, caller.tenant_id) != pid
    vm = await caller.vm()
    assert (vm["epoch"], vm["state"], vm["cause"]) == (2, "running", "memory")


async def test_a_swollen_runtime_that_works_is_left_alone_until_its_limit_is_near(
    lake: Any, caller: Any, settings_of: Any
) -> None:
    """Then its queries end where they are, and the next ones are answered by a fresh process."""
    await caller.add("numbers", caller.parquet("numbers", [{"id": n} for n in range(1400)]))
    await caller.rows("select count(*) from numbers")
    pid = await pid_of(lake, caller.tenant_id)
    slow = "select count(*) as n from numbers a, numbers b, numbers c where a.id + b.id + c.id < 0"
    asking = asyncio.create_task(caller.sql(slow))
    await asyncio.sleep(0.3)
    async with open_context(settings_of(vm_recycle_mib=20)) as context:
        await jobs.replace_swollen_any(context)
    assert not asking.done()
    assert await pid_of(lake, caller.tenant_id) == pid
    async with open_context(settings_of(vm_recycle_mib=20, vm_memory_mib=21)) as context:
        await jobs.replace_swollen_any(context)
    assert await caller.rows("select 1 as one") == [{"one": 1}]
    assert not asking.done(), "the query was to outlast the change"
    assert (await caller.vm())["epoch"] == 2
    answer = await asking
    assert (answer.status_code, answer.json()["rows"]) == (200, [{"n": 0}])
    assert await pid_of(lake, caller.tenant_id) != pid


def nobody_boots(lake: Any) -> Any:
    async def look() -> bool:
        async with lake.database.any_tenant() as connection:
            return not await connection.fetchval(
                "select count(*) from lake_vms where state = 'provisioning' "
                "and (lease_until is null or endpoint is not null)"
            )

    return look


async def test_the_life_is_told_in_metrics(lake: Any, caller: Any) -> None:
    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0

    moves = [
        {"from": "not_provisioned", "to": "provisioning", "cause": "query"},
        {"from": "provisioning", "to": "running", "cause": "boot"},
        {"from": "running", "to": "hibernating", "cause": "stop"},
        {"from": "hibernating", "to": "paused", "cause": "hibernated"},
    ]
    await eventually(nobody_boots(lake))
    before = [value("weir_lake_vm_transitions_total", **move) for move in moves], boots()
    await caller.rows("select 1 as one")
    await caller.http.put("/settings", json={"autoApply": False})
    await caller.add("people", caller.parquet("people", ROWS))
    async with open_context(lake.settings) as context:
        await jobs.count_states_any(context)
    assert value("weir_lake_config_version_drift") == 1
    assert value("weir_lake_vm_state", state="running") >= 1
    await caller.http.post("/stop?wait=10")
    after = [value("weir_lake_vm_transitions_total", **move) for move in moves], boots()
    assert [b - a for a, b in zip(before[0], after[0], strict=True)] == [1, 1, 1, 1]
    assert after[1] - before[1] == 1
