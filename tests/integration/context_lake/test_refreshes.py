"""Refreshes as a client asks for them, as schedules make them, and as workers that come and go serve them."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weir.context_lake.refreshes import serving
from weir.context_lake.tables import lake_refreshes
from weir.context_lake.vms import rounds
from weir.context_lake.vms.providers.process import ProcessHost
from weir.worker.app import open_context
from weir_shared import clock

from .conftest import Caller, Lake, eventually, working

KEPT = {"acceleration": {"engine": "duckdb", "mode": "file"}}


def write(caller: Caller, name: str, rows: list[dict[str, Any]]) -> str:
    """In the place of what was there, as a writer would."""
    path = caller.imports / caller.tenant_id / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".aside")
    pq.write_table(pa.Table.from_pylist(rows), aside)
    aside.rename(path)
    return f"file:{path}"


def remove(caller: Caller, name: str) -> None:
    (caller.imports / caller.tenant_id / f"{name}.parquet").unlink()


async def refresh(caller: Caller, path: str, wait: int = 20) -> dict[str, Any]:
    answer = await caller.http.post(f"/{path}/refresh?wait={wait}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def add_view(caller: Caller, name: str, sql: str, **more: Any) -> None:
    answer = await caller.http.post("/views", json={"name": name, "sql": sql, **more})
    assert answer.status_code == 201, answer.text


async def total(caller: Caller, table: str = "sales") -> int:
    [row] = await caller.rows(f"select sum(n) as s from {table}")
    return row["s"]


async def due_now(caller: Caller, name: str) -> None:
    """Moves the clock of one schedule."""
    async with caller.database.tenant(caller.tenant_id) as connection:
        await lake_refreshes.schedule(connection, caller.tenant_id, name, clock.now() - timedelta(seconds=1))


async def known(caller: Caller, name: str) -> lake_refreshes.Refresh:
    async with caller.database.tenant(caller.tenant_id) as connection:
        found = await lake_refreshes.read_refresh(connection, caller.tenant_id, name)
    assert found is not None
    return found


async def test_refresh_asked_for_by_hand_reads_the_source_again(caller: Caller) -> None:
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), **KEPT)
    assert await total(caller) == 1
    write(caller, "sales", [{"n": 5}, {"n": 6}])
    assert await total(caller) == 1

    told = await refresh(caller, "datasets/Sales")

    assert told["ok"]
    assert (told["refresh"]["name"], told["refresh"]["state"]) == ("sales", "succeeded")
    assert await total(caller) == 11
    status = (await caller.status())["datasets"]["sales"]
    assert (status["ok"], status["status"], status["rowCount"]) == (True, "ready", 2)
    assert status["refresh"]["lastSuccessAt"] and status["refresh"]["lastError"] is None
    assert status["schemaHash"] and status["lastLoadedAt"]


async def test_refresh_without_waiting_is_accepted_and_listed_when_done(caller: Caller) -> None:
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), **KEPT)
    await total(caller)
    answer = await caller.http.post("/datasets/sales/refresh")
    assert answer.status_code == 202
    assert answer.json()["ok"] and answer.json()["refresh"]["state"] in ("queued", "running")

    async def listed() -> list[Any]:
        return (await caller.http.get("/datasets/sales/refreshes")).json()["refreshes"]

    [run] = await eventually(listed)
    assert (run["trigger"], run["outcome"], run["rowCount"]) == ("manual", "succeeded", 1)


async def test_runs_are_listed_page_by_page_the_newest_first(caller: Caller) -> None:
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), **KEPT)
    for _ in range(3):
        await refresh(caller, "datasets/sales")
    first = (await caller.http.get("/datasets/sales/refreshes?limit=2")).json()
    second = (await caller.http.get(f"/datasets/sales/refreshes?limit=2&cursor={first['nextCursor']}")).json()
    ids = [int(run["id"]) for run in (*first["refreshes"], *second["refreshes"])]
    assert len(ids) == 3 and ids == sorted(ids, reverse=True)
    assert "nextCursor" not in second
    for cursor in ("x", "eA"):
        assert (await caller.http.get(f"/datasets/sales/refreshes?cursor={cursor}")).status_code == 400


async def test_refresh_of_what_is_not_there_or_not_yours_is_refused(
    caller: Caller, other: Caller, lake: Lake
) -> None:
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), **KEPT)
    await add_view(caller, "plain", "select n from sales")
    for asker, path, status, code in (
        (caller, "datasets/nothing", 404, "dataset_not_found"),
        (caller, "views/nothing", 404, "view_not_found"),
        (caller, "views/sales", 404, "view_not_found"),
        (caller, "views/plain", 400, "not_materialised"),
        (other, "datasets/sales", 404, "dataset_not_found"),
    ):
        answer = await asker.http.post(f"/{path}/refresh")
        assert (answer.status_code, answer.json()["code"]) == (status, code), path
    assert (await caller.http.post("/datasets/sales/refresh?wait=181")).status_code == 400
    async with lake.caller(caller.tenant_id, scopes=("lake:read",)) as reader:
        assert (await reader.http.post("/datasets/sales/refresh")).status_code == 403
        assert (await reader.http.get("/datasets/sales/refreshes")).status_code == 200


async def test_failed_refresh_keeps_old_data(caller: Caller) -> None:
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), **KEPT)
    assert await total(caller) == 1
    remove(caller, "sales")

    told = await refresh(caller, "datasets/sales")

    assert not told["ok"] and told["refresh"]["state"] == "failed"
    assert told["refresh"]["lastError"]["message"]
    assert told["refresh"]["nextAt"], "it is tried again"
    assert await total(caller) == 1
    status = (await caller.status())["datasets"]["sales"]
    assert (status["ok"], status["status"]) == (False, "error")
    assert status["refresh"]["lastError"]["message"] == status["error"]["message"]

    write(caller, "sales", [{"n": 9}])

    async def is_mended() -> bool:
        return (await caller.status())["datasets"]["sales"]["ok"]

    await eventually(is_mended, within=15)
    assert await total(caller) == 9
    runs = (await caller.http.get("/datasets/sales/refreshes")).json()["refreshes"]
    assert (runs[0]["outcome"], runs[-1]["outcome"]) == ("succeeded", "failed")


async def test_failure_is_not_tried_again_when_retries_are_off(caller: Caller) -> None:
    block = {"engine": "duckdb", "refresh_retry_enabled": False, "refresh_check_interval": "1h"}
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), acceleration=block)
    await total(caller)
    remove(caller, "sales")
    assert not (await refresh(caller, "datasets/sales"))["ok"]
    found = await known(caller, "sales")
    assert (found.is_open, found.failures) == (False, 1)
    assert found.next_at is not None and found.next_at > clock.now() + timedelta(minutes=59)


async def test_schema_drift_reported(caller: Caller) -> None:
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), **KEPT)
    await total(caller)
    write(caller, "sales", [{"m": "x"}])
    told = await refresh(caller, "datasets/sales")
    assert "column n is gone" in told["refresh"]["lastError"]["message"]
    assert await total(caller) == 1
    assert (await caller.http.post("/redeploy")).status_code in (200, 202)

    async def is_taken_over() -> bool:
        answer = await caller.sql("select m from sales")
        return answer.status_code == 200

    await eventually(is_taken_over)


async def test_view_refresh_order_topological(caller: Caller) -> None:
    """b reads a, and c reads both: each is made after what it reads, once, when the dataset was."""
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), **KEPT)
    await add_view(caller, "z_a", "select sum(n) as s from sales", refresh="manual")
    await add_view(caller, "inline", "select s * 10 as s from z_a")
    await add_view(caller, "m_b", "select s + 1 as s from inline", refresh="manual")
    await add_view(caller, "a_c", "select z_a.s as a, m_b.s as b from z_a, m_b", refresh="manual")
    assert await caller.rows("select a, b from a_c") == [{"a": 1, "b": 11}]
    write(caller, "sales", [{"n": 7}])

    assert (await refresh(caller, "datasets/sales"))["ok"]

    async def is_followed() -> bool:
        return await caller.rows("select a, b from a_c") == [{"a": 7, "b": 71}]

    await eventually(is_followed)
    started = {}
    for view in ("z_a", "m_b", "a_c"):
        runs = (await caller.http.get(f"/views/{view}/refreshes")).json()["refreshes"]
        assert [(run["trigger"], run["outcome"]) for run in runs] == [("source", "succeeded")], view
        started[view] = int(runs[0]["id"])
    assert started["z_a"] < started["m_b"] < started["a_c"]


async def test_materialised_views_over_plain_datasets_follow_too(caller: Caller) -> None:
    await caller.add("sales", write(caller, "sales", [{"n": 1}]))
    await add_view(caller, "totals", "select sum(n) as n from sales", refresh="24h")
    assert await total(caller, "totals") == 1
    write(caller, "sales", [{"n": 4}])
    assert await total(caller, "totals") == 1
    assert (await refresh(caller, "datasets/sales"))["ok"]

    async def is_followed() -> bool:
        return await total(caller, "totals") == 4

    await eventually(is_followed)
    status = (await caller.status())["views"]["totals"]
    assert (status["status"], status["rowCount"]) == ("ready", 1)
    assert status["refresh"]["nextAt"] > clock.rfc3339(clock.now() + timedelta(hours=23))


async def test_schedule_reads_again_by_itself(caller: Caller) -> None:
    block = {"engine": "duckdb", "refresh_check_interval": "1s"}
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), acceleration=block)
    assert await total(caller) == 1
    write(caller, "sales", [{"n": 2}])

    async def is_newer() -> bool:
        return await total(caller) == 2

    await eventually(is_newer)
    async with caller.database.tenant(caller.tenant_id) as connection:
        [run, *_] = await lake_refreshes.list_runs(
            connection, caller.tenant_id, "sales", before=None, limit=1
        )
    assert run.trigger == "schedule"
    # It must not go on beside the other tests.
    assert (await caller.http.delete("/datasets/sales")).status_code == 200


async def test_cron_says_when_it_is_read_again(caller: Caller) -> None:
    block = {"engine": "duckdb", "refresh_cron": "0 6 1 1 *"}
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), acceleration=block)
    shown = (await caller.status())["datasets"]["sales"]["refresh"]
    assert shown["nextAt"].endswith("-01-01T06:00:00Z")
    await caller.http.put("/datasets/sales", json={"from": write(caller, "sales", [{"n": 1}])})
    assert (await known(caller, "sales")).next_at is None
    await caller.http.delete("/datasets/sales")
    async with caller.database.tenant(caller.tenant_id) as connection:
        assert await lake_refreshes.read_refreshes(connection, caller.tenant_id) == {}


async def test_restart_answers_from_the_last_generation_without_the_source(caller: Caller) -> None:
    await caller.add("sales", write(caller, "sales", [{"n": 3}]), **KEPT)
    assert await total(caller) == 3
    await caller.stop()
    assert (await caller.status())["datasets"]["sales"]["status"] == "unknown"
    remove(caller, "sales")
    assert await total(caller) == 3
    assert (await caller.status())["datasets"]["sales"]["status"] == "ready"


async def test_sleeping_runtime_is_left_asleep_by_a_schedule_unless_it_is_to_wake(
    caller: Caller, lake: Lake, settings_of: Callable[..., Any]
) -> None:
    block = {"engine": "duckdb", "refresh_check_interval": "1h"}
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), acceleration=block)
    await total(caller)
    await caller.stop()
    await due_now(caller, "sales")
    await asyncio.sleep(2.5)
    assert (await caller.status())["vmStatus"] == "paused"

    async with working(settings_of(refresh_wakes=True)):

        async def is_done() -> bool:
            return (await known(caller, "sales")).succeeded_at is not None

        await eventually(is_done, within=20)
    assert (await caller.status())["vmStatus"] == "running"


async def test_refresh_by_hand_wakes_a_sleeping_runtime(caller: Caller) -> None:
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), **KEPT)
    await total(caller)
    await caller.stop()
    write(caller, "sales", [{"n": 8}])
    assert (await refresh(caller, "datasets/sales"))["ok"]
    assert await total(caller) == 8


async def test_refresh_at_every_start_where_that_is_asked_for(caller: Caller) -> None:
    block = {"engine": "duckdb", "refresh_on_startup": "always"}
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), acceleration=block)
    assert await total(caller) == 1
    await caller.stop()
    write(caller, "sales", [{"n": 2}])

    async def is_newer() -> bool:
        return await total(caller) == 2

    await eventually(is_newer)


async def test_runtime_with_a_refresh_due_soon_is_not_put_to_sleep(
    caller: Caller, lake: Lake, settings_of: Callable[..., Any]
) -> None:
    block = {"engine": "duckdb", "refresh_check_interval": "90s"}
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), acceleration=block)
    await total(caller)
    async with caller.database.tenant(caller.tenant_id) as connection:
        await connection.execute(
            "update lake_vms set last_activity_at = now() - interval '1 hour' where tenant_id = $1",
            caller.tenant_id,
        )
    async with open_context(lake.settings) as context:
        await rounds.hibernate_idle_any(context["lake_keeper"])
        assert (await caller.vm())["state"] == "running"
        async with caller.database.tenant(caller.tenant_id) as connection:
            await lake_refreshes.schedule(
                connection, caller.tenant_id, "sales", clock.now() + timedelta(hours=1)
            )
            await connection.execute(
                "update lake_vms set last_activity_at = now() - interval '1 hour' where tenant_id = $1",
                caller.tenant_id,
            )
        await rounds.hibernate_idle_any(context["lake_keeper"])
    assert (await caller.vm())["state"] in ("hibernating", "paused")


async def test_kill_of_the_runtime_during_a_refresh_is_made_good(caller: Caller, lake: Lake) -> None:
    """The old rows answer after the kill, and the refresh is made by the next runtime."""
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), **KEPT)
    assert await total(caller) == 1
    big = pa.table({"n": pa.array(range(4_000_000), pa.int64())})
    pq.write_table(big, Path(str(caller.imports)) / caller.tenant_id / "sales.parquet")
    await caller.http.post("/datasets/sales/refresh")

    async def is_loading() -> bool:
        return (await caller.status())["datasets"]["sales"]["status"] == "refreshing"

    await eventually(is_loading)
    living = await ProcessHost(lake.settings).list()
    [pid] = [runtime.pid for runtime in living if runtime.tenant == caller.tenant_id]
    os.kill(pid, signal.SIGKILL)
    assert await total(caller) in (1, sum(range(4_000_000)))

    async def is_newer() -> bool:
        return await total(caller) == sum(range(4_000_000))

    await eventually(is_newer, within=60)
    runs = (await caller.http.get("/datasets/sales/refreshes")).json()["refreshes"]
    assert runs[0]["outcome"] == "succeeded"


@pytest.fixture
async def worker(lake: Lake) -> Any:
    async with open_context(lake.settings) as context:
        yield context["lake_refreshes"]


async def test_zombie_of_a_lost_lease_changes_nothing(caller: Caller, worker: Any) -> None:
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), **KEPT)
    await total(caller)
    async with caller.database.tenant(caller.tenant_id) as connection:
        await lake_refreshes.want(connection, caller.tenant_id, "sales", trigger="manual")
        zombie = await lake_refreshes.claim(connection, caller.tenant_id, "sales", seconds=0.2)
    assert zombie is not None

    async def is_served() -> bool:
        found = await known(caller, "sales")
        return found.served == found.wish

    await eventually(is_served)
    before = await known(caller, "sales")
    async with caller.database.tenant(caller.tenant_id) as connection:
        assert not await lake_refreshes.succeed(
            connection, caller.tenant_id, "sales", zombie.token, row_count=1, byte_count=1
        )
        assert not await lake_refreshes.fail(
            connection, caller.tenant_id, "sales", zombie.token, error="x", retry_seconds=1
        )
    assert await known(caller, "sales") == before
    runs = (await caller.http.get("/datasets/sales/refreshes")).json()["refreshes"]
    assert sorted(run["outcome"] for run in runs) == ["lost", "succeeded"]


async def test_refresh_of_a_worker_that_dies_is_taken_up_by_another(
    caller: Caller, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), **KEPT)
    await total(caller)
    monkeypatch.setattr(serving, "LEASE_SECONDS", 1)
    ask: Callable[..., Awaitable[dict[str, Any]]] = serving._ask
    hangs = asyncio.Event()

    async def hang_once(server: Any, tenant_id: str, held: Any) -> dict[str, Any]:
        if tenant_id == caller.tenant_id and not hangs.is_set():
            hangs.set()
            await asyncio.sleep(3600)
        return await ask(server, tenant_id, held)

    monkeypatch.setattr(serving, "_ask", hang_once)
    async with caller.database.tenant(caller.tenant_id) as connection:
        await lake_refreshes.want(connection, caller.tenant_id, "sales", trigger="manual")
    dying = asyncio.create_task(serving.serve(worker, caller.tenant_id, "sales"))
    await hangs.wait()
    dying.cancel()

    async def is_served() -> bool:
        found = await known(caller, "sales")
        return found.served == found.wish

    await eventually(is_served)
    runs = (await caller.http.get("/datasets/sales/refreshes")).json()["refreshes"]
    assert [run["outcome"] for run in runs] == ["succeeded", "lost"]


async def test_two_workers_serve_a_wish_once(caller: Caller, lake: Lake) -> None:
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), **KEPT)
    await total(caller)
    async with AsyncExitStack() as stack:
        servers = [
            (await stack.enter_async_context(open_context(lake.settings)))["lake_refreshes"] for _ in range(2)
        ]
        async with caller.database.tenant(caller.tenant_id) as connection:
            await lake_refreshes.want(connection, caller.tenant_id, "sales", trigger="manual")
        await asyncio.gather(
            *(serving.serve(server, caller.tenant_id, "sales") for server in servers for _ in range(5))
        )
    await asyncio.sleep(0.5)
    runs = (await caller.http.get("/datasets/sales/refreshes")).json()["refreshes"]
    assert [run["outcome"] for run in runs] == ["succeeded"]


async def test_debounce_burst_one_refresh(caller: Caller, worker: Any) -> None:
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), **KEPT)
    await total(caller)
    for _ in range(50):
        async with caller.database.tenant(caller.tenant_id) as connection:
            await lake_refreshes.want(connection, caller.tenant_id, "sales", trigger="sqs", quiet_seconds=0.6)

    async def is_served() -> bool:
        found = await known(caller, "sales")
        return found.served == found.wish == 50

    await eventually(is_served)
    runs = (await caller.http.get("/datasets/sales/refreshes")).json()["refreshes"]
    assert [(run["trigger"], run["outcome"]) for run in runs] == [("sqs", "succeeded")]


async def test_event_during_refresh_one_followup(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    await caller.add("sales", write(caller, "sales", [{"n": 1}]), **KEPT)
    await total(caller)
    ask: Callable[..., Awaitable[dict[str, Any]]] = serving._ask
    asked = 0

    async def ask_while_events_come(server: Any, tenant_id: str, held: Any) -> dict[str, Any]:
        nonlocal asked
        asked += tenant_id == caller.tenant_id
        if tenant_id == caller.tenant_id and asked == 1:
            for _ in range(5):
                async with server.database.tenant(tenant_id) as connection:
                    await lake_refreshes.want(connection, tenant_id, held.key, trigger="sqs")
        return await ask(server, tenant_id, held)

    monkeypatch.setattr(serving, "_ask", ask_while_events_come)
    assert (await refresh(caller, "datasets/sales"))["ok"]

    async def is_served() -> bool:
        found = await known(caller, "sales")
        return found.served == found.wish == 6

    await eventually(is_served)
    await asyncio.sleep(0.5)
    assert asked == 2
