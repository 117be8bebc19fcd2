"""What `POST /sql` answers: rows, parameters, limits, refusals, and streams that keep memory flat."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from tests.promises import Promise, size

from .conftest import MEBIBYTE, Lakes, RuntimeClient


async def test_an_answer_has_rows_schema_and_figures(lake: RuntimeClient) -> None:
    status, body = await lake.sql("select 1 as x, 'a' as y", coldStart=True)
    assert status == 200
    assert body["durationMs"] >= 0
    del body["durationMs"]
    assert body == {
        "rows": [{"x": 1, "y": "a"}],
        "schema": [
            {"name": "x", "type": "int64", "nullable": False},
            {"name": "y", "type": "string", "nullable": False},
        ],
        "rowCount": 1,
        "truncated": False,
        "coldStart": True,
    }


async def test_an_empty_result_has_no_rows_and_a_schema(lake: RuntimeClient) -> None:
    _, body = await lake.sql("select 1 as x where false")
    assert (body["rows"], body["rowCount"], body["truncated"]) == ([], 0, False)
    assert [column["name"] for column in body["schema"]] == ["x"]


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("cast(9223372036854775807 as bigint)", "9223372036854775807"),
        ("arrow_cast(18446744073709551615, 'UInt64')", "18446744073709551615"),
        ("cast('123456789012345678.123456789' as decimal(38, 9))", "123456789012345678.123456789"),
        ("cast('nan' as double)", "null"),
        ("cast('inf' as double)", "null"),
        ("x'00ff'", '"00ff"'),
        ("date '2024-01-02'", '"2024-01-02"'),
        ("timestamp '2024-01-02 03:04:05.5'", '"2024-01-02T03:04:05.500"'),
        (
            "arrow_cast('2024-01-02T03:04:05Z', 'Timestamp(Nanosecond, Some(\"UTC\"))')",
            '"2024-01-02T03:04:05Z"',
        ),
        ("interval '1 month 2 days 3 seconds'", '"P1M2DT3S"'),
        ("arrow_cast(90, 'Duration(Second)')", '"PT90S"'),
        ("[1, null]", "[1,null]"),
        ("named_struct('a', 1, 'b', null)", '{"a":1,"b":null}'),
        ("map {'k': 1}", '{"k":1}'),
        ("map {1: 'a'}", '{"1":"a"}'),
        ("arrow_cast('a', 'Dictionary(Int32, Utf8)')", '"a"'),
        ("arrow_cast('a', 'Utf8View')", '"a"'),
        ("null", "null"),
    ],
)
async def test_a_value_of_each_type_arrives_as_the_table_says(
    lake: RuntimeClient, sql: str, value: str
) -> None:
    payload = {"query": f"select {sql} as v"}
    async with lake.http.post("http://lake/sql", json=payload) as response:
        text = await response.text()
    assert text.startswith('{"rows":[{"v":' + value + "}],"), text


async def test_columns_of_one_name_are_suffixed(lake: RuntimeClient) -> None:
    rows = await lake.rows("select * from (select 1 as x, 2 as x_1) a, (select 3 as x) b, (select 4 as x) c")
    assert rows == [{"x": 1, "x_1": 2, "x_2": 3, "x_3": 4}]


async def test_parameters_are_bound_by_position_and_by_name(lake: RuntimeClient) -> None:
    assert await lake.rows("select $1 + $2 as s, $3 as t", parameters=[1, 2, "x'; drop"]) == [
        {"s": 3, "t": "x'; drop"}
    ]
    assert await lake.rows("select $a as a, $b as b", parameters={"a": None, "b": True}) == [
        {"a": None, "b": True}
    ]
    status, body = await lake.sql("select $1 as a")
    assert (status, body["code"]) == (400, "sql_error")


async def test_max_rows_truncates_and_says_so(lake: RuntimeClient) -> None:
    series = "select value from generate_series(1, 100000) order by value"
    _, body = await lake.sql(series, maxRows=3)
    assert ([row["value"] for row in body["rows"]], body["rowCount"], body["truncated"]) == (
        [1, 2, 3],
        3,
        True,
    )
    _, body = await lake.sql("select value from generate_series(1, 3)", maxRows=3)
    assert (body["rowCount"], body["truncated"]) == (3, False)
    _, body = await lake.sql(series)
    assert (body["rowCount"], body["truncated"]) == (10_000, True)
    _, body = await lake.sql(series, maxRows=0)
    assert (body["rows"], body["truncated"]) == ([], True)


async def test_max_bytes_truncates_and_says_so(lake: RuntimeClient) -> None:
    _, body = await lake.sql(
        "select repeat('x', 1000) as x from generate_series(1, 100000)", maxRows=100_000, maxBytes=5_000_000
    )
    assert body["truncated"]
    assert 1_000 < body["rowCount"] < 50_000
    assert len(body["rows"]) == body["rowCount"]
    _, body = await lake.sql("select repeat('x', 1000) as x", maxBytes=100)
    assert (body["rowCount"], body["truncated"]) == (1, False)


async def test_explain_and_describe_are_answered(lake: RuntimeClient) -> None:
    assert (await lake.rows("explain select 1"))[0]["plan_type"] == "logical_plan"
    assert await lake.rows("explain analyze select 1")


@pytest.mark.parametrize(
    "sql",
    [
        "create table x as select 1",
        "create external table x stored as csv location '/tmp/'",
        "insert into x values (1)",
        "copy (select 1) to '/tmp/weir-x.csv'",
        "explain analyze copy (select 1) to '/tmp/weir-x.csv'",
        "set datafusion.execution.batch_size = 1",
        "prepare p as select 1",
        "drop table x",
        "select * into y from (select 1 as a) t",
        "create view v as select 1",
        "create function f() returns int as 'x'",
    ],
)
async def test_a_statement_that_is_no_query_is_403(lake: RuntimeClient, sql: str) -> None:
    status, body = await lake.sql(sql)
    assert (status, body["code"]) == (403, "statement_not_allowed"), body


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("selec", "sql_error"),
        ("select 1; select 2", "sql_error"),
        ("select * from nope", "sql_error"),
        ("select 1/0", "sql_error"),
        ("", "sql_error"),
        ("select " + "+".join("1" * 10_000), "query_too_complex"),
        ("select '" + "x" * 262_144 + "'", "query_too_large"),
        ("select " + "(" * 90 + "1" + ")" * 90, "sql_error"),
        ("select " + "not " * 5_000 + "true", "sql_error"),
        ("select " + "- " * 900 + "1", "sql_error"),
    ],
)
async def test_a_mistake_is_400_and_the_runtime_lives(lake: RuntimeClient, sql: str, code: str) -> None:
    status, body = await lake.sql(sql)
    assert (status, body["code"]) == (400, code), body
    assert await lake.rows("select 1 as x") == [{"x": 1}]


async def test_a_failure_after_the_first_bytes_breaks_the_answer_off(lake: RuntimeClient) -> None:
    sql = "select 1000000 / (300000 - value) as v, repeat('x', 100) as w from generate_series(1, 400000)"
    received = bytearray()
    with pytest.raises(aiohttp.ClientError):
        async with lake.http.post("http://lake/sql", json={"query": sql, "maxRows": None}) as response:
            assert response.status == 200
            async for piece in response.content.iter_any():
                received += piece
    assert len(received) > MEBIBYTE
    with pytest.raises(json.JSONDecodeError):
        json.loads(received)


@pytest.mark.promise("P9")
async def test_millions_of_rows_keep_memory_flat(lakes: Lakes, promise: Promise) -> None:
    rows = size(2_000_000, 10_000_000)
    lake = await lakes.start()
    await lake.configure()
    await lake.rows("select value, repeat('x', 100) as w from generate_series(1, 20000)", maxRows=None)
    before, peak, received = lake.resident_bytes(), 0, 0
    sql = f"select value, repeat('x', 200) as w from generate_series(1, {rows})"
    async with lake.http.post("http://lake/sql", json={"query": sql, "maxRows": None}) as response:
        tail = b""
        async for piece in response.content.iter_chunked(MEBIBYTE):
            received += len(piece)
            tail = (tail + piece)[-400:]
            peak = max(peak, lake.resident_bytes())
    assert received > rows * 200
    assert f'"rowCount":{rows}'.encode() in tail
    # The allocators keep some of what passes through; the answer and its batches would be four times that.
    assert peak - before < 256 * MEBIBYTE
    promise.held(
        f"{rows} rows, {received // MEBIBYTE} MiB through a runtime that grew by {max(0, peak - before) // MEBIBYTE} MiB"
    )


async def test_a_reader_that_stalls_keeps_memory_flat_and_others_are_served(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure()
    sql = "select value, repeat('x', 100) as w from generate_series(1, 10000000)"
    async with lake.http.post("http://lake/sql", json={"query": sql, "maxRows": None}) as response:
        await response.content.readany()
        before = lake.resident_bytes()
        await asyncio.sleep(1)
        assert await lake.rows("select 1 as x") == [{"x": 1}]
        assert lake.resident_bytes() - before < 64 * MEBIBYTE
        response.close()


@pytest.mark.parametrize(
    ("form", "content_type", "body"),
    [
        ("ndjson", "application/x-ndjson", b'{"x":1,"y":"a"}\n'),
        ("csv", "text/csv; charset=utf-8", b"x,y\n1,a\n"),
    ],
)
async def test_other_formats(lake: RuntimeClient, form: str, content_type: str, body: bytes) -> None:
    payload: dict[str, Any] = {"query": "select 1 as x, 'a' as y", "format": form}
    async with lake.http.post("http://lake/sql", json=payload) as response:
        assert response.headers["content-type"] == content_type
        assert await response.read() == body
