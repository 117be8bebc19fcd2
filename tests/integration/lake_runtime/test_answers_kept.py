"""What a runtime keeps of its answers, what it tells of its work, and how it mends a source that failed."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from .conftest import Lakes, RuntimeClient, dataset


async def cache_status(lake: RuntimeClient, query: str, **rest: object) -> str | None:
    async with lake.http.post("http://lake/sql", json={"query": query} | rest) as response:
        assert response.status == 200, await response.text()
        return response.headers.get("results-cache-status")


async def test_an_answer_is_kept_until_its_table_is_opened_again(lakes: Lakes) -> None:
    path = lakes.file("t.csv", "a\n1\n")
    lake = await lakes.start()
    await lake.configure(dataset("t", path))
    await lake.tables()
    assert await cache_status(lake, "select * from t") == "MISS"
    assert await cache_status(lake, "select * from t") == "HIT"
    path.write_text("a\n2\n")
    await lake.request("POST", "/datasets/t/refresh")
    assert await lake.rows("select * from t") == [{"a": 2}]


@pytest.mark.parametrize(
    "query",
    [
        "select now() as x",
        "select random() as x",
        "select uuid() as x",
        "select current_date as x",
        "select * from v",
        "select * from runtime.task_history",
        "select * from information_schema.tables",
        "explain select 1",
    ],
)
async def test_what_changes_by_itself_is_never_kept(lakes: Lakes, query: str) -> None:
    lake = await lakes.start()
    await lake.configure(views=[{"name": "v", "sql": "select random() as x"}])
    assert [await cache_status(lake, query) for _ in range(2)] == [None, None]


async def test_a_long_answer_is_made_anew(lake: RuntimeClient) -> None:
    query = "select repeat('x', 1000) as x from generate_series(1, 2000)"
    assert [await cache_status(lake, query) for _ in range(2)] == ["MISS", "MISS"]


async def test_no_caller_is_shown_what_another_may_see(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure(dataset("t", lakes.file("t.csv", "a\n1\n")))
    assert await lake.rows("select * from t") == [{"a": 1}]
    status, body = await lake.sql("select * from t", tables=[])
    assert (status, body["code"]) == (400, "sql_error")


async def test_the_history_holds_refusals_and_no_secrets(lakes: Lakes) -> None:
    lake = await lakes.start()
    definition = {
        "name": "s",
        "connector": "s3",
        "format": "csv",
        "location": "s3://bucket/x.csv",
        "options": {"auth": "key", "access_key_id": "keykeykey", "secret_access_key": "hushhushhush"},
    }
    await lake.configure(definition)
    await lake.sql("select 'hushhushhush' as x, 'https://me:pass@host' as y", subject="ann", traceId="t1")
    await lake.sql("selec", subject="bob")
    await lake.sql("select 1 + " + "1 + " * 2000 + "1")
    rows = await lake.rows("select * from runtime.task_history")
    assert [row["labels"].get("error_code", "") for row in rows] == ["", "sql_error", "query_too_complex"]
    assert "hushhush" not in json.dumps(rows)
    assert "me:pass" not in json.dumps(rows)
    assert rows[0]["trace_id"] == "t1"
    assert all(row["error_message"] for row in rows[1:])
    assert len(rows[2]["input"]) < 5000


async def test_who_sees_some_tables_sees_his_own_history_only(lake: RuntimeClient) -> None:
    await lake.sql("select 1 as a", subject="ann")
    await lake.sql("select 2 as b", subject="bob")
    rows = await lake.rows("select input from runtime.task_history", subject="bob", tables=[])
    assert rows == [{"input": "select 2 as b"}]


async def test_the_schema_of_the_runtime_is_its_own(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure(
        dataset("runtime.task_history", lakes.file("t.csv", "a\n1\n")),
        views=[{"name": "v", "sql": "select * from runtime.task_history"}],
    )
    tables = await lake.tables()
    assert {table["status"] for table in tables.values()} == {"error"}
    assert "trace_id" in (await lake.sql("select * from runtime.task_history"))[1]["schema"][0].values()


async def test_a_source_that_failed_is_opened_when_it_is_there(
    lakes: Lakes, eventually: Callable[..., Awaitable[None]]
) -> None:
    lake = await lakes.start()
    path = lakes.imports / "late.csv"
    await lake.configure(dataset("t", path), views=[{"name": "v", "sql": "select a + 1 as b from t"}])
    assert {t["status"] for t in (await lake.tables()).values()} == {"error"}
    path.write_text("a\n1\n")
    async with asyncio.timeout(10):
        while (await lake.sql("select * from v", useCache=False))[0] != 200:
            await asyncio.sleep(0.1)
    assert await lake.rows("select * from v") == [{"b": 2}]
