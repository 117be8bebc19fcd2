"""Rows that are kept beside their source: loaded, read again, found again, and never seen half."""

import asyncio
import contextlib
import os
import signal
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from .conftest import MEBIBYTE, Lakes, RuntimeClient, dataset

Eventually = Callable[..., Awaitable[None]]


def kept(name: str, location: Path, form: str = "csv", **keeping: Any) -> dict[str, Any]:
    return {**dataset(name, location, form), "fingerprint": f"of {location}", "keeping": keeping}


async def refresh(lake: RuntimeClient, name: str) -> dict[str, Any]:
    status, answer = await lake.request("POST", f"/datasets/{name}/refresh", {})
    assert status == 200, answer
    return answer


async def status_of(lake: RuntimeClient, name: str) -> dict[str, Any]:
    status = await lake.status()
    return (status["datasets"] | status["views"])[name]


async def test_restart_finds_the_last_generation_without_its_source(lakes: Lakes) -> None:
    tenant = str(uuid.uuid4())
    source = lakes.file("a.csv", "n\n1\n2\n")
    first = await lakes.start(tenant)
    await first.configure(kept("a", source))
    assert await first.rows("select sum(n) as s from a") == [{"s": 3}]
    before = await status_of(first, "a")
    await lakes.host.ask("kill", tenant=tenant, epoch=1, signal="KILL")
    source.unlink()

    second = await lakes.start(tenant, epoch=2)
    await second.configure(kept("a", source))

    assert await second.rows("select sum(n) as s from a") == [{"s": 3}]
    after = await status_of(second, "a")
    assert (after["status"], after["generation"], after["rowCount"]) == ("ready", before["generation"], 2)
    assert after["loadedAt"][:19] == before["loadedAt"][:19]


async def test_kept_rows_answer_until_they_are_read_again(lakes: Lakes) -> None:
    source = lakes.file("a.csv", "n\n1\n")
    lake = await lakes.start()
    await lake.configure(kept("a", source))
    assert await lake.rows("select n from a") == [{"n": 1}]

    source.write_text("n\n7\n8\n")
    assert await lake.rows("select n from a", useCache=False) == [{"n": 1}]
    told = await refresh(lake, "a")

    assert (told["ok"], told["rowCount"], told["generation"]) == (True, 2, 2)
    assert await lake.rows("select n from a order by n") == [{"n": 7}, {"n": 8}]


async def test_failed_refresh_keeps_the_old_rows_and_says_so(lakes: Lakes) -> None:
    source = lakes.file("a.csv", "n\n1\n")
    lake = await lakes.start()
    await lake.configure(kept("a", source))
    await lake.rows("select n from a")

    source.unlink()
    told = await refresh(lake, "a")

    assert not told["ok"]
    assert told["error"]["message"]
    assert (await status_of(lake, "a"))["status"] == "error"
    assert await lake.rows("select n from a") == [{"n": 1}]
    source.write_text("n\n2\n")
    assert (await refresh(lake, "a"))["ok"]
    assert (await status_of(lake, "a"))["status"] == "ready"


async def test_changed_definition_loads_anew(lakes: Lakes) -> None:
    tenant = str(uuid.uuid4())
    first = await lakes.start(tenant)
    await first.configure(kept("a", lakes.file("a.csv", "n\n1\n")))
    await first.rows("select n from a")

    await first.configure(kept("a", lakes.file("b.csv", "n\n5\n")), version=2)

    assert await first.rows("select n from a") == [{"n": 5}]


async def test_new_credentials_change_nothing_of_what_is_kept(lakes: Lakes) -> None:
    source = lakes.file("a.csv", "n\n1\n")
    lake = await lakes.start()
    for store in ("parquet", "memory"):
        first = kept("a", source, store=store)
        await lake.configure(first)
        assert await lake.rows("select n from a") == [{"n": 1}]
        before = await status_of(lake, "a")
        source.unlink()
        await lake.configure({**first, "options": {"secret": "another"}}, version=2)
        assert await lake.rows("select n from a", useCache=False) == [{"n": 1}]
        assert (await status_of(lake, "a"))["generation"] == before["generation"]
        source.write_text("n\n1\n")


async def test_only_the_newest_two_generations_stay_on_disk(lakes: Lakes) -> None:
    source = lakes.file("a.csv", "n\n1\n")
    lake = await lakes.start()
    await lake.configure(kept("a", source))
    await lake.rows("select n from a")
    for _ in range(4):
        await refresh(lake, "a")
    folder = lakes.home / "cache" / lake.tenant[:8] / "accelerated" / "a"
    assert sorted(entry.name for entry in folder.iterdir()) == ["gen-4", "gen-5"]


async def test_what_is_not_configured_any_more_is_dropped_from_disk(
    lakes: Lakes, eventually: Eventually
) -> None:
    source = lakes.file("a.csv", "n\n1\n")
    lake = await lakes.start()
    await lake.configure(kept("a", source), kept("b", source))
    await lake.rows("select count(*) as n from a, b")
    folder = lakes.home / "cache" / lake.tenant[:8] / "accelerated"
    await lake.configure(kept("b", source), version=2)
    await eventually(lambda: [entry.name for entry in folder.iterdir()] == ["b"])


def generation_file(path: Path, generation: int, rows: int = 2000) -> None:
    """Every row of it names its generation; put in place as a writer would."""
    table = pa.table({"g": [generation] * rows, "n": list(range(rows))})
    aside = path.with_suffix(".aside")
    pq.write_table(table, aside, row_group_size=500)
    aside.rename(path)


async def test_refresh_swap_never_mixes_generations(lakes: Lakes) -> None:
    source = lakes.imports / "g.parquet"
    generation_file(source, 0)
    lake = await lakes.start()
    views = [
        {"name": "v", "sql": "select g, count(*) as n from a group by g"},
        {"name": "w", "sql": "select max(g) as g from v"},
    ]
    await lake.configure(kept("a", source, "parquet"), views=views)
    query = (
        "select min(g) as low, max(g) as high, count(*) as n from "
        "(select g from a union all select g from a where n < 100 union all select g from v "
        "union all select g from w)"
    )
    await lake.rows(query)
    stop = False
    seen: set[int] = set()

    async def ask() -> None:
        while not stop:
            [row] = await lake.rows(query, useCache=False)
            assert row["low"] == row["high"], row
            assert row["n"] == 2102, row
            seen.add(row["low"])

    askers = [asyncio.create_task(ask()) for _ in range(4)]
    for generation in range(1, 31):
        generation_file(source, generation)
        assert (await refresh(lake, "a"))["ok"]
    stop = True
    await asyncio.gather(*askers)
    assert len(seen) > 10


async def test_long_statement_reads_its_generation_to_the_end(lakes: Lakes) -> None:
    source = lakes.imports / "g.parquet"
    generation_file(source, 0, rows=200_000)
    lake = await lakes.start()
    await lake.configure(kept("a", source, "parquet"))
    await lake.rows("select count(*) as n from a")
    body = {"query": "select g, n, repeat('x', 400) as pad from a", "format": "ndjson", "maxRows": None}
    async with lake.http.post("http://lake/sql", json=body) as answer:
        first = await answer.content.readline()
        for generation in range(1, 6):
            generation_file(source, generation, rows=10)
            await refresh(lake, "a")
        lines = [first, *(await answer.content.read()).splitlines()]
    assert len(lines) == 200_000
    assert all(line.startswith(b'{"g":0,') for line in lines)


async def test_kill_during_a_load_leaves_the_old_generation(lakes: Lakes) -> None:
    tenant = str(uuid.uuid4())
    source = lakes.imports / "g.parquet"
    generation_file(source, 1, rows=10)
    first = await lakes.start(tenant)
    await first.configure(kept("a", source, "parquet"))
    await first.rows("select count(*) as n from a")
    generation_file(source, 2, rows=3_000_000)
    folder = lakes.home / "cache" / tenant[:8] / "accelerated" / "a"

    loading = asyncio.create_task(refresh(first, "a"))
    while not any(part.stat().st_size > 0 for part in folder.glob("*.partial/*.parquet")):
        assert not loading.done(), "too quick to be killed"
        await asyncio.sleep(0.001)
    os.kill(first.pid, signal.SIGKILL)
    with contextlib.suppress(Exception):
        await loading

    second = await lakes.start(tenant, epoch=2)
    source.unlink()
    await second.configure(kept("a", source, "parquet"))
    assert await second.rows("select min(g) as g, count(*) as n from a") == [{"g": 1, "n": 10}]
    assert [entry.name for entry in folder.iterdir()] == ["gen-1"]


async def test_broken_generation_gives_way_to_the_one_before(lakes: Lakes) -> None:
    tenant = str(uuid.uuid4())
    source = lakes.file("a.csv", "n\n1\n")
    first = await lakes.start(tenant)
    await first.configure(kept("a", source))
    await first.rows("select n from a")
    source.write_text("n\n2\n")
    await refresh(first, "a")
    await lakes.host.ask("kill", tenant=tenant, epoch=1, signal="KILL")
    [part] = (lakes.home / "cache" / tenant[:8] / "accelerated/a/gen-2").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:-40])
    source.unlink()
    second = await lakes.start(tenant, epoch=2)
    await second.configure(kept("a", source))
    assert await second.rows("select n from a") == [{"n": 1}]


APPEND = {"appends": True, "timeColumn": "t"}


async def test_append_reads_only_what_is_newer(lakes: Lakes) -> None:
    source = lakes.file("a.csv", "t,n\n2026-01-01T00:00:00,1\n2026-01-01T00:00:10,2\n")
    lake = await lakes.start()
    await lake.configure(kept("a", source, **APPEND))
    await lake.rows("select n from a")

    # The old rows are gone from the source, one comes late, one is new.
    source.write_text("t,n\n2026-01-01T00:00:05,9\n2026-01-01T00:00:20,3\n")
    told = await refresh(lake, "a")

    assert told["rowCount"] == 3
    assert await lake.rows("select n from a order by t") == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert (await refresh(lake, "a"))["generation"] == told["generation"], "nothing new is no generation"


async def test_append_with_overlap_takes_late_rows_once(lakes: Lakes) -> None:
    source = lakes.file("a.csv", "t,n\n2026-01-01T00:00:00,1\n2026-01-01T00:00:10,2\n")
    lake = await lakes.start()
    await lake.configure(kept("a", source, **APPEND, overlapSeconds=8))
    await lake.rows("select n from a")
    source.write_text(
        "t,n\n2026-01-01T00:00:00,1\n2026-01-01T00:00:01,0\n2026-01-01T00:00:05,9\n2026-01-01T00:00:10,2\n"
    )
    for _ in range(3):
        await refresh(lake, "a")
    assert await lake.rows("select n from a order by t") == [{"n": 1}, {"n": 9}, {"n": 2}]


@pytest.mark.parametrize(
    ("form", "values", "later"),
    [
        ("unix_seconds", [100, 200], 300),
        ("unix_millis", [100_000, 200_000], 300_000),
        ("date", ["2026-01-01", "2026-01-02"], "2026-01-03"),
        ("ISO8601", ["2026-01-01T00:00:00+02:00", "2026-01-01T00:00:00Z"], "2026-01-01T00:00:00-02:00"),
        ("unix_seconds", [1.5, 2.5], 2.75),
    ],
)
async def test_append_follows_every_form_of_time(
    lakes: Lakes, form: str, values: list[Any], later: Any
) -> None:
    def write(times: list[Any]) -> None:
        column = pa.array(times)
        if form == "date":
            column = column.cast(pa.date32())
        pq.write_table(pa.table({"t": column, "n": list(range(len(times)))}), source)

    source = lakes.imports / "a.parquet"
    write(values)
    lake = await lakes.start()
    await lake.configure(kept("a", source, "parquet", **APPEND, timeFormat=form))
    assert await lake.rows("select count(*) as n from a") == [{"n": 2}]
    write([*values, later])
    assert (await refresh(lake, "a"))["rowCount"] == 3


async def test_many_appends_become_few_files(lakes: Lakes) -> None:
    source = lakes.file("a.csv", "t,n\n100,1\n")
    lake = await lakes.start()
    await lake.configure(kept("a", source, **APPEND, timeFormat="unix_seconds"))
    await lake.rows("select n from a")
    for number in range(1, 31):
        source.write_text(f"t,n\n{100 + number},{number}\n")
        assert (await refresh(lake, "a"))["ok"]
    folder = lakes.home / "cache" / lake.tenant[:8] / "accelerated/a/gen-31"
    assert len(list(folder.glob("*.parquet"))) < 24
    assert await lake.rows("select count(*) as n, max(t) as t from a") == [{"n": 31, "t": 130}]


async def test_new_and_wider_columns_are_followed(lakes: Lakes) -> None:
    source = lakes.file("a.csv", "t,n\n1,1\n")
    lake = await lakes.start()
    full, append = kept("f", source), kept("a", source, **APPEND, timeFormat="unix_seconds")
    await lake.configure(full, append)
    await lake.rows("select count(*) as n from a, f")
    hashed = (await status_of(lake, "a"))["schemaHash"]

    source.write_text("t,n,more\n2,1.5,x\n")
    assert (await refresh(lake, "f"))["ok"]
    told = await refresh(lake, "a")

    assert told["ok"], told
    assert told["schemaHash"] != hashed
    assert await lake.rows("select t, n, more from f") == [{"t": 2, "n": 1.5, "more": "x"}]
    assert await lake.rows("select t, n, more from a order by t") == [
        {"t": 1, "n": 1.0, "more": None},
        {"t": 2, "n": 1.5, "more": "x"},
    ]


async def test_schema_drift_is_reported_and_a_forced_configuration_takes_it_over(
    lakes: Lakes, eventually: Eventually
) -> None:
    source = lakes.file("a.csv", "t,n\n1,1\n")
    lake = await lakes.start()
    await lake.configure(kept("a", source))
    await lake.rows("select n from a")

    source.write_text("t,m\nx,1\n")
    told = await refresh(lake, "a")

    assert not told["ok"]
    assert "column n is gone" in told["error"]["message"]
    assert "column t was int64 and is string" in told["error"]["message"]
    assert await lake.rows("select n from a") == [{"n": 1}]
    await lake.configure(kept("a", source), version=2, force=True)
    until = asyncio.get_running_loop().time() + 5
    while (await status_of(lake, "a"))["generation"] != 2:
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.02)
    assert await lake.rows("select t, m from a") == [{"t": "x", "m": 1}]


async def test_refresh_sql_is_read_in_the_place_of_the_source(lakes: Lakes) -> None:
    lake = await lakes.start()
    source = lakes.file("a.csv", "n,s\n1,x\n2,y\n3,z\n")
    await lake.configure(kept("a", source, refreshSql="select n from a where n > 1"))
    assert await lake.rows("select * from a order by n") == [{"n": 2}, {"n": 3}]


async def test_window_and_retention_leave_old_rows_out(lakes: Lakes, eventually: Eventually) -> None:
    source = lakes.imports / "a.parquet"
    now = int(time.time())
    pq.write_table(pa.table({"t": [now - 1000, now - 10], "n": [1, 2]}), source)
    lake = await lakes.start()
    times = {"timeColumn": "t", "timeFormat": "unix_seconds"}
    await lake.configure(
        kept("window", source, "parquet", **times, windowSeconds=100),
        kept("period", source, "parquet", **times, retentionSeconds=100),
        kept("clause", source, "parquet", retentionCondition="n = 1 or n is null"),
        kept("later", source, "parquet", **times, retentionSeconds=11, retentionEverySeconds=0.2),
    )
    for name in ("window", "period", "clause"):
        assert await lake.rows(f"select n from {name}") == [{"n": 2}], name
    await lake.rows("select n from later")
    until = asyncio.get_running_loop().time() + 8
    while await lake.rows("select n from later", useCache=False):
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.1)


async def test_keys_are_kept_and_rows_that_come_again_take_the_place_of_the_old(lakes: Lakes) -> None:
    tenant = str(uuid.uuid4())
    source = lakes.file("a.csv", "t,k,v\n1,a,first\n1,b,first\n")
    keys = {
        "store": "duckdb", "primaryKey": ["k"], "onConflict": "upsert", "conflictColumns": ["k"],
        "indexes": [{"columns": ["v"]}], **APPEND, "timeFormat": "unix_seconds",
    }  # fmt: skip
    lake = await lakes.start(tenant)
    await lake.configure(kept("a", source, **keys))
    await lake.rows("select k from a")
    source.write_text("t,k,v\n2,b,second\n2,c,early\n2,c,late\n")
    told = await refresh(lake, "a")
    assert told["ok"], told
    rows = [{"k": "a", "v": "first"}, {"k": "b", "v": "second"}, {"k": "c", "v": "late"}]
    assert await lake.rows("select k, v from a order by k") == rows
    assert told["rowCount"] == 3
    await lakes.host.ask("kill", tenant=tenant, epoch=1, signal="KILL")
    source.unlink()
    second = await lakes.start(tenant, epoch=2)
    await second.configure(kept("a", source, **keys))
    assert await second.rows("select k, v from a order by k") == rows


async def test_broken_key_is_told_and_conflicts_may_be_dropped(lakes: Lakes) -> None:
    source = lakes.file("a.csv", "k,v\n1,first\n1,second\n")
    lake = await lakes.start()
    await lake.configure(
        kept("strict", source, store="duckdb", primaryKey=["k"]),
        kept("lax", source, store="duckdb", primaryKey=["k"], onConflict="drop"),
    )
    assert await lake.rows("select v from lax") == [{"v": "first"}]
    status, answer = await lake.sql("select v from strict")
    assert status == 502 and "break a key" in answer["error"], answer


async def test_memory_holds_rows_within_its_bound(lakes: Lakes) -> None:
    source = lakes.file("a.csv", "n\n1\n2\n")
    lake = await lakes.start()
    await lake.configure(kept("a", source, store="memory"))
    assert await lake.rows("select sum(n) as n from a") == [{"n": 3}]
    source.write_text("n\n5\n")
    assert (await refresh(lake, "a"))["rowCount"] == 1
    assert await lake.rows("select sum(n) as n from a") == [{"n": 5}]
    assert not list((lakes.home / "cache" / lake.tenant[:8]).glob("accelerated/*/gen-*"))


async def test_rows_beyond_the_room_are_refused_and_leave_nothing(lakes: Lakes) -> None:
    source = lakes.file("a.csv", "n\n1\n")
    lake = await lakes.start()
    await lake.configure(kept("a", source), keptBytes=10)
    await lake.rows("select n from a")
    told = await refresh(lake, "a")
    assert not told["ok"]
    assert "more than 10 bytes" in told["error"]["message"]
    assert await lake.rows("select n from a") == [{"n": 1}]


async def test_source_answers_until_the_rows_are_loaded_when_asked_to(lakes: Lakes) -> None:
    source = lakes.imports / "a.parquet"
    generation_file(source, 1, rows=3_000_000)
    lake = await lakes.start()
    await lake.configure(kept("a", source, "parquet", readyAtOnce=True))
    assert await lake.rows("select count(*) as n from a") == [{"n": 3_000_000}]
    assert (await status_of(lake, "a"))["rowCount"] is None, "it was loaded too quickly to tell"
    until = asyncio.get_running_loop().time() + 20
    while (await status_of(lake, "a"))["rowCount"] is None:
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.05)
    source.unlink()
    assert await lake.rows("select count(*) as n from a") == [{"n": 3_000_000}]


async def test_materialised_view_keeps_its_rows_until_it_is_refreshed(lakes: Lakes) -> None:
    tenant = str(uuid.uuid4())
    source = lakes.file("a.csv", "n\n1\n2\n")
    views = [
        {"name": "total", "sql": "select sum(n) as s from a", "fingerprint": "1", "keeping": {}},
        {"name": "twice", "sql": "select 2 * s as s from total"},
    ]
    lake = await lakes.start(tenant)
    await lake.configure(dataset("a", source), views=views)
    assert await lake.rows("select s from twice") == [{"s": 6}]
    source.write_text("n\n5\n")
    await refresh(lake, "a")
    assert await lake.rows("select s from twice") == [{"s": 6}]
    assert (await refresh(lake, "total"))["ok"]
    assert await lake.rows("select s from twice") == [{"s": 10}]
    await lakes.host.ask("kill", tenant=tenant, epoch=1, signal="KILL")
    source.unlink()
    second = await lakes.start(tenant, epoch=2)
    await second.configure(dataset("a", source), views=views)
    assert await second.rows("select s from total") == [{"s": 5}]


async def test_load_under_way_survives_a_new_configuration(lakes: Lakes) -> None:
    source = lakes.imports / "a.parquet"
    generation_file(source, 1, rows=3_000_000)
    lake = await lakes.start()
    await lake.configure(kept("a", source, "parquet"))
    await asyncio.sleep(0.1)
    await lake.configure(
        kept("a", source, "parquet"), views=[{"name": "v", "sql": "select max(g) as g from a"}], version=2
    )
    assert await lake.rows("select g from v") == [{"g": 1}]
    assert (await status_of(lake, "a"))["generation"] == 1


async def test_query_that_waits_for_a_load_is_told_when_its_definition_goes(lakes: Lakes) -> None:
    source = lakes.imports / "a.parquet"
    generation_file(source, 1, rows=4_000_000)
    lake = await lakes.start()
    await lake.configure(kept("a", source, "parquet"))
    waiting = asyncio.create_task(lake.sql("select count(*) as n from a"))
    await asyncio.sleep(0.1)
    await lake.configure(kept("a", source, "parquet", refreshSql="select g from a where n < 5"), version=2)
    status, answer = await waiting
    assert status == 200 or "has changed meanwhile" in answer["error"], answer
    assert await lake.rows("select count(*) as n from a") == [{"n": 5}]


async def test_refreshes_are_rows_of_the_task_history(lakes: Lakes) -> None:
    source = lakes.file("a.csv", "n\n1\n")
    lake = await lakes.start()
    await lake.configure(kept("a", source))
    await lake.rows("select n from a")
    await lake.request("POST", "/datasets/a/refresh", {"trigger": "manual"})
    [row] = await lake.rows(
        "select input, labels['trigger'] as trigger, error_message from runtime.task_history where task = 'refresh'"
    )
    assert row["input"] == "a" and row["error_message"] is None
    assert "manual" in str(row["trigger"])


async def test_relation_without_rows_of_its_own_cannot_be_refreshed(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure(views=[{"name": "v", "sql": "select 1 as n"}])
    for name in ("v", "nothing"):
        assert (await lake.request("POST", f"/datasets/{name}/refresh", {}))[0] == 404


async def test_load_holds_a_part_of_its_rows_in_memory(lakes: Lakes) -> None:
    """600 MB of rows, as they lie in memory, pass through a runtime that grows by a part of them."""
    source = lakes.imports / "big.parquet"
    piece = pa.table({"n": pa.array(range(500_000)), "pad": [f"{n:0200d}" for n in range(500_000)]})
    with pq.ParquetWriter(source, piece.schema) as writer:
        for _ in range(6):
            writer.write_table(piece, row_group_size=50_000)
    lake = await lakes.start(memory=2048 * MEBIBYTE)
    await lake.configure(dataset("small", lakes.file("s.csv", "n\n1\n")))
    await lake.rows("select n from small")
    before = peak = lake.resident_bytes()
    await lake.configure(kept("big", source, "parquet"), version=2)
    while (await status_of(lake, "big"))["status"] == "initializing":
        peak = max(peak, lake.resident_bytes())
        await asyncio.sleep(0.02)
    assert await lake.rows("select count(*) as n from big") == [{"n": 3_000_000}]
    assert piece.nbytes * 6 > 600 * MEBIBYTE
    assert peak - before < 450 * MEBIBYTE, (peak - before) / MEBIBYTE
