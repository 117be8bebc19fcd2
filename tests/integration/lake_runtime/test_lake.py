"""A configuration's life: names, views, versions, refreshes, and faults that stay where they belong."""

import asyncio
import base64
from typing import Any

import pyarrow as pa
import pytest

from .conftest import Lakes, RuntimeClient, dataset


def view(name: str, sql: str) -> dict[str, str]:
    return {"name": name, "sql": sql}


async def test_a_table_is_found_in_any_letter_case_and_a_quoted_one_exactly(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure(
        dataset("Orders", lakes.file("a.csv", "a\n1\n")),
        dataset("sales.Daily", lakes.file("b.csv", "a\n2\n")),
        dataset("x", lakes.file("c.csv", "a\n3\n")),
        dataset("X", lakes.file("d.csv", "a\n4\n")),
    )
    for name in ("Orders", "orders", "ORDERS", '"Orders"', "public.orders", "lake.public.ORDERS"):
        assert await lake.rows(f"select a from {name}") == [{"a": 1}], name
    for name in ("sales.Daily", "SALES.daily", 'sales."Daily"', "lake.sales.daily"):
        assert await lake.rows(f"select a from {name}") == [{"a": 2}], name
    assert await lake.rows('select a from x union all select a from "X" order by a') == [{"a": 3}, {"a": 4}]
    for name in ('"ORDERS"', "daily", "sales.orders", "other.orders"):
        assert (await lake.sql(f"select a from {name}"))[0] == 400, name


async def test_a_broken_source_is_its_own_and_no_other(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure(
        dataset("good", lakes.file("a.csv", "a\n1\n")),
        dataset("broken", lakes.file("b.parquet", b"this is no parquet file"), "parquet"),
        views=[view("over_good", "select a + 1 as b from good"), view("over_broken", "select * from broken")],
    )
    assert await lake.rows("select * from over_good") == [{"b": 2}]
    for table in ("broken", "over_broken"):
        status, body = await lake.sql(f"select * from {table}")
        assert (status, body["code"], body["dataset"]) == (502, "source_error", "broken"), body
    tables = await lake.tables()
    assert {name: t["status"] for name, t in tables.items()} == {
        "good": "ready",
        "broken": "error",
        "over_good": "ready",
        "over_broken": "error",
    }
    assert tables["good"]["columns"] == [{"name": "a", "type": "int64", "nullable": True}]
    assert tables["broken"]["columns"] is None


async def test_a_view_sees_only_what_is_defined_before_it(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure(
        views=[
            view("a", "select 1 as x"),
            view("b", "select x + 1 as x from a"),
            view("self", "select * from self"),
            view("early", "select * from late"),
            view("late", "select 1 as x"),
            view("writes", "insert into a values (1)"),
        ]
    )
    assert await lake.rows("select * from b") == [{"x": 2}]
    tables = await lake.tables()
    assert [n for n, t in tables.items() if t["status"] == "error"] == ["self", "early", "writes"]
    assert "table 'late' not found" in tables["early"]["error"]["message"]


async def test_views_that_double_25_times_are_refused_when_they_are_planned(lakes: Lakes) -> None:
    lake = await lakes.start()
    views = [view("v0", "select 1 as x")]
    views += [view(f"v{i}", f"select a.x from v{i - 1} a, v{i - 1} b") for i in range(1, 26)]
    await lake.configure(views=views)
    tables = await lake.tables()
    assert tables["v5"]["status"] == "ready"
    assert "the limit is 10000" in next(t["error"]["message"] for t in tables.values() if t["error"])
    assert (await lake.sql("select count(*) from v25"))[0] == 400


async def test_a_statement_sees_only_the_tables_it_may(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure(
        dataset("mine", lakes.file("a.csv", "a\n1\n")),
        dataset("theirs", lakes.file("b.csv", "a\n2\n")),
        views=[view("shared", "select sum(a) as s from theirs")],
    )
    seen = {"tables": ["Mine", "shared"]}
    assert await lake.rows("select a from mine", **seen) == [{"a": 1}]
    assert await lake.rows("select s from shared", **seen) == [{"s": 2}]
    for sql in (
        "select * from theirs",
        "select * from mine where a in (select a from theirs)",
        "with c as (select * from theirs) select * from c",
        'select * from lake.public."theirs"',
        "explain select * from theirs",
        "describe theirs",
        "show columns from theirs",
        "show create table theirs",
    ):
        status, body = await lake.sql(sql, **seen)
        assert (status, body["code"]) == (400, "sql_error"), sql
        assert "not found" in body["error"], sql
    for sql in ("show tables", "select table_name from information_schema.tables"):
        names = {row["table_name"] for row in await lake.rows(sql, **seen)}
        assert names == {"mine", "shared"}
    rows = await lake.rows("select distinct table_name from information_schema.columns", **seen)
    assert {row["table_name"] for row in rows} == {"mine", "shared"}
    rows = await lake.rows("select table_name from information_schema.views", **seen)
    assert rows == [{"table_name": "shared"}]


@pytest.mark.parametrize(
    "sql",
    ["show all", "show datafusion.execution.batch_size", "select * from information_schema.df_settings"],
)
async def test_the_engines_settings_are_not_shown(lake: RuntimeClient, sql: str) -> None:
    status, body = await lake.sql(sql)
    assert status in (400, 403)
    assert "rows" not in body


async def test_a_new_version_takes_the_place_of_the_old_one(lakes: Lakes) -> None:
    lake = await lakes.start()
    path = lakes.file("a.csv", "a\n1\n")
    await lake.configure(dataset("t", path), views=[view("v", "select 'old' as x")])
    loaded = (await lake.tables())["t"]["loadedAt"]
    await lake.configure(dataset("t", path), version=2, views=[view("v", "select 'new' as x from t")])
    assert await lake.rows("select * from v") == [{"x": "new"}]
    assert (await lake.tables())["t"]["loadedAt"] == loaded
    assert (await lake.status())["version"] == 2
    await lake.configure(dataset("t", path), version=2, force=True)
    assert (await lake.tables())["t"]["loadedAt"] != loaded
    assert (await lake.sql("select * from v"))[0] == 400


async def test_a_running_query_ends_on_the_version_it_began_with(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure(dataset("t", lakes.file("a.csv", "a\n" + "7\n" * 200_000)))
    slow = asyncio.create_task(lake.sql("select sum(t.a) as s from t, generate_series(1, 500)"))
    await asyncio.sleep(0.1)
    await lake.configure(version=2)
    status, body = await slow
    assert (status, body["rows"]) == (200, [{"s": 7 * 200_000 * 500}])


async def test_a_refresh_reads_a_new_schema_and_its_views_follow(lakes: Lakes) -> None:
    lake = await lakes.start()
    path = lakes.file("d/a.csv", "a\n1\n")
    await lake.configure(
        dataset("t", lakes.imports / "d"),
        views=[view("v", "select * from t"), view("w", "select * from v")],
    )
    assert await lake.rows("select * from w") == [{"a": 1}]
    path.write_text("a,b\n1,x\n")
    status, body = await lake.request("POST", "/datasets/t/refresh")
    assert (status, body["ok"], body["status"]) == (200, True, "ready")
    assert [column["name"] for column in body["columns"]] == ["a", "b"]
    assert await lake.rows("select * from w") == [{"a": 1, "b": "x"}]


async def test_a_refresh_that_fails_is_told_and_the_earlier_table_goes_on(lakes: Lakes) -> None:
    lake = await lakes.start()
    kept, lost = lakes.file("d/a.csv", "a\n1\n"), lakes.imports / "d"
    await lake.configure(dataset("t", lost))
    assert await lake.rows("select * from t") == [{"a": 1}]
    kept.rename(lost / "a.txt2")
    body = (await lake.request("POST", "/datasets/t/refresh"))[1]
    assert (body["ok"], body["status"]) == (False, "error")
    assert await lake.rows("select count(*) as n from t") == [{"n": 0}]
    (lost / "a.txt2").rename(kept)
    assert (await lake.request("POST", "/datasets/t/refresh"))[1]["ok"]


async def test_a_broken_dataset_that_is_mended_brings_its_views_back(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure(
        dataset("t", lakes.imports / "late.csv"),
        views=[view("v", "select * from t"), view("w", "select * from v")],
    )
    assert (await lake.sql("select * from w"))[0] == 502
    lakes.file("late.csv", "a\n1\n")
    assert (await lake.request("POST", "/datasets/t/refresh"))[1]["ok"]
    assert await lake.rows("select * from w") == [{"a": 1}]


@pytest.mark.parametrize("name", ["v", "nope"])
async def test_only_a_dataset_can_be_refreshed(lakes: Lakes, name: str) -> None:
    lake = await lakes.start()
    await lake.configure(views=[view("v", "select 1 as x")])
    status, body = await lake.request("POST", f"/datasets/{name}/refresh")
    assert (status, body["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/configuration", {"version": "x"}, 400),
        ("PUT", "/configuration", {"version": 1, "more": 1}, 400),
        ("POST", "/sql", {}, 400),
        ("POST", "/sql", {"query": 5}, 400),
        ("POST", "/sql", {"query": "select $1", "parameters": [2**70]}, 400),
        ("GET", "/nothing", None, 404),
        ("GET", "/sql", None, 404),
        ("GET", "/tables?name=nope", None, 404),
    ],
)
async def test_a_bad_request_is_told_so(
    lake: RuntimeClient, method: str, path: str, body: Any, status: int
) -> None:
    got, answer = await lake.request(method, path, body)
    assert got == status
    assert set(answer) >= {"error", "code", "status"}


async def test_a_query_before_the_first_configuration_is_503(lakes: Lakes) -> None:
    lake = await lakes.start()
    status, body = await lake.sql("select 1")
    assert (status, body["code"]) == (503, "runtime_stopping")


async def test_the_exact_columns_of_what_has_been_opened_are_told_with_the_marks_they_came_with(
    lakes: Lakes,
) -> None:
    lake = await lakes.start()
    await lake.configure(
        dataset("good", lakes.file("a.csv", "a,b\n1,x\n")) | {"fingerprint": "f1"},
        dataset("broken", lakes.file("b.parquet", b"this is no parquet file"), "parquet"),
        views=[view("v", "select * from good")],
    )
    await lake.tables()
    status, body = await lake.request("GET", "/schemas")
    assert (status, list(body["schemas"])) == (200, ["good"])
    assert body["schemas"]["good"]["fingerprint"] == "f1"
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(body["schemas"]["good"]["schema"])))
    assert schema.names == ["a", "b"]
    assert schema.field("a").type == pa.int64()
    assert await lake.request("GET", "/schemas?name=absent") == (200, {"schemas": {}})
