"""A plan that is kept saves work and nothing else: what is asked again sees what is there now, and only that."""

import asyncio
import time

import pyarrow as pa
import pyarrow.parquet as pq

from .conftest import Lakes, dataset

ANEW = {"useCache": False}


async def test_a_statement_asked_again_reads_the_file_as_it_is_now(lakes: Lakes) -> None:
    path = lakes.file("t.csv", "a\n1\n")
    lake = await lakes.start()
    await lake.configure(dataset("t", path))
    for number in range(1, 5):
        path.write_text(f"a\n{number}\n")
        assert await lake.rows("select a from t", **ANEW) == [{"a": number}]


async def test_a_statement_asked_again_after_a_refresh_has_the_new_columns(lakes: Lakes) -> None:
    path = lakes.file("t.csv", "a\n1\n")
    lake = await lakes.start()
    await lake.configure(dataset("t", path))
    for _ in range(3):
        assert await lake.rows("select * from t", **ANEW) == [{"a": 1}]
    path.write_text("b,c\n2,3\n")
    await lake.request("POST", "/datasets/t/refresh")
    assert await lake.rows("select * from t", **ANEW) == [{"b": 2, "c": 3}]


async def test_a_plan_of_one_caller_is_not_run_for_one_who_may_not_see_its_tables(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure(dataset("t", lakes.file("t.csv", "a\n1\n")))
    for _ in range(3):
        assert await lake.rows("select * from t", tables=["t"], **ANEW) == [{"a": 1}]
    status, body = await lake.sql("select * from t", tables=[], **ANEW)
    assert (status, body["code"]) == (400, "sql_error")


async def test_parameters_and_limits_are_those_of_each_request(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure(dataset("t", lakes.file("t.csv", "a\n1\n2\n3\n")))
    for wanted in (1, 2, 3):
        assert await lake.rows("select a from t where a = $1", parameters=[wanted], **ANEW) == [{"a": wanted}]
        _, answer = await lake.sql("select a from t order by a", maxRows=wanted, **ANEW)
        assert (answer["rowCount"], answer["truncated"]) == (wanted, wanted < 3)


async def test_what_says_something_else_each_time_does_so_from_the_same_text(lakes: Lakes) -> None:
    lake = await lakes.start()
    await lake.configure(dataset("t", lakes.file("t.csv", "a\n1\n")))
    times = [(await lake.rows("select now() as at from t", **ANEW))[0]["at"] for _ in range(3)]
    assert len(set(times)) == 3


async def test_a_quick_statement_that_has_become_long_still_ends_with_its_time(lakes: Lakes) -> None:
    path = lakes.imports / "grows.parquet"
    pq.write_table(pa.table({"a": list(range(10))}), path)
    lake = await lakes.start()
    await lake.configure(dataset("t", path, "parquet"))
    query = "select sum(x.a * y.a * z.a) as s from t x, t y, t z where x.a + y.a + z.a > 0"
    for _ in range(3):
        assert len(await lake.rows(query, **ANEW)) == 1
    pq.write_table(pa.table({"a": list(range(20_000))}), path)
    started = time.monotonic()
    status, body = await lake.sql(query, seconds=1.0, **ANEW)
    assert (status, body["code"]) == (504, "timeout")
    assert time.monotonic() - started < 5


async def test_what_is_no_http_is_told_so_before_the_connection_ends(lakes: Lakes) -> None:
    lake = await lakes.start()
    reader, writer = await asyncio.open_unix_connection(str(lake.socket))
    writer.write(b"this is no request\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400 ")
    writer.close()
