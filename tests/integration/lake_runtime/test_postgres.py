"""A PostgreSQL table as a dataset: what is asked of the server, what comes back, and what goes wrong."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from .conftest import Lakes, RuntimeClient

IDENTITY = "4f2c8b1e-0000-4000-8000-00000000002a"
# The platform's own ledger may lie on the same server, under the same name.
ACTIVITY = "from pg_stat_activity where application_name = 'weir' and datname = current_database()"


class Source:
    """A database of this test, and what its server was asked."""

    def __init__(self, dsn: str, admin: asyncpg.Connection) -> None:
        self.dsn = dsn
        self.admin = admin

    def dataset(self, name: str, *table: str, **options: Any) -> dict[str, Any]:
        url = urlsplit(self.dsn)
        return {
            "name": name,
            "connector": "postgres",
            "from": f"postgres:{'.'.join(table)}",
            "options": {
                "table": list(table),
                "pg_host": url.hostname,
                "pg_port": str(url.port),
                "pg_db": url.path[1:],
                "pg_user": url.username,
                "pg_pass": url.password,
                "pg_sslmode": "disable",
                **options,
            },
        }

    async def last_asked(self) -> str:
        """The latest statement of a connection that waits for the next one."""
        rows = await self.admin.fetch(f"select query {ACTIVITY} order by query_start desc")
        query: str = rows[0]["query"]
        return query.removeprefix("COPY (").removesuffix(") TO STDOUT (FORMAT binary)")

    async def reading(self) -> int:
        return await self.admin.fetchval(f"select count(*) {ACTIVITY} and state = 'active'")


@pytest.fixture
async def source(postgres_dsn: str) -> AsyncIterator[Source]:
    name = f"source_{uuid.uuid4().hex[:12]}"
    server = await asyncpg.connect(postgres_dsn)
    await server.execute(f'create database "{name}"')
    dsn = f"{postgres_dsn.rpartition('/')[0]}/{name}"
    admin = await asyncpg.connect(dsn)
    yield Source(dsn, admin)
    await admin.close()
    await server.execute(f'drop database "{name}" with (force)')
    await server.close()


async def opened(lakes: Lakes, *datasets: dict[str, Any], **rest: Any) -> RuntimeClient:
    lake = await lakes.start(**rest)
    await lake.configure(*datasets)
    return lake


async def test_every_type_keeps_its_value(lakes: Lakes, source: Source) -> None:
    await source.admin.execute(
        f"""
        create type mood as enum ('glad', 'sad');
        create table "Odd ""Name" (
            small smallint, big bigint not null, real4 real, real8 double precision,
            price numeric(12, 2), plain numeric, huge numeric(45, 5), yes boolean, words text,
            short varchar(9), padded char(5), bytes bytea, day date, moment timestamp, instant timestamptz,
            hour time, id uuid, doc jsonb, feeling mood, cash money, span interval, numbers int[]
        );
        insert into "Odd ""Name" values (
            1, 9007199254740993, 1.5, 2.25, 1234567890.12, 3.14159, 1234567890123456789012345678901234567890.5,
            true, 'ü''s', 'v', 'ab', '\\xdead', '2024-02-29', '2024-01-02 03:04:05.678901',
            '2024-01-02 03:04:05+02', '12:34:56', '{IDENTITY}', '{{"a": 1}}', 'sad', 12.50, '1 day', '{{1,2}}'
        );
        insert into "Odd ""Name" (big, price, plain) values (2, null, 'NaN');
        """
    )
    lake = await opened(lakes, source.dataset("t", "public", 'Odd "Name'))
    first, second = await lake.rows("select * from t order by big desc")
    assert first == {
        "small": 1,
        "big": 9007199254740993,
        "real4": 1.5,
        "real8": 2.25,
        "price": pytest.approx(1234567890.12),
        "plain": pytest.approx(3.14159),
        "huge": pytest.approx(1234567890123456789012345678901234567890.5),
        "yes": True,
        "words": "ü's",
        "short": "v",
        "padded": "ab",
        "bytes": "dead",
        "day": "2024-02-29",
        "moment": "2024-01-02T03:04:05.678901",
        "instant": "2024-01-02T01:04:05Z",
        "hour": "12:34:56",
        "id": IDENTITY,
        "doc": '{"a": 1}',
        "feeling": "sad",
        "cash": "$12.50",
        "span": "1 day",
        "numbers": [1, 2],
    }
    assert {k: v for k, v in second.items() if v is not None} == {"big": 2}
    columns = {c["name"]: c for c in (await lake.tables())["t"]["columns"]}
    assert columns["price"]["type"] == "decimal128(12, 2)"
    assert columns["big"] == {"name": "big", "type": "int64", "nullable": False}


async def test_columns_and_conditions_are_asked_of_the_server(lakes: Lakes, source: Source) -> None:
    await source.admin.execute(
        f"""
        create table t (id uuid, a int, b text, d date, n numeric(9, 2), f float8, ok boolean);
        insert into t select case when i = 42 then '{IDENTITY}'::uuid else gen_random_uuid() end, i,
            'b' || i, date '2024-01-01' + i, i / 4.0, i / 2.0, i % 2 = 0
        from generate_series(1, 1000) i;
        """
    )
    lake = await opened(lakes, source.dataset("t", "t"))
    for condition, asked, count in (
        ("a = 42", '("a" = 42)', 1),
        ("a in (1, 2, 3, 4, 5000)", '("a" IN (1, 2, 3, 4, 5000))', 4),
        ("a between 10 and 19", '(("a" >= 10) AND ("a" <= 19))', 10),
        ("b = 'b7' or b = 'it''s'", "((\"b\" = 'b7') OR (\"b\" = 'it''s'))", 1),
        ("b >= 'b998'", '("b" COLLATE "C" >= \'b998\')', 2),
        (f"id = '{IDENTITY}'", f"(\"id\" = '{IDENTITY}')", 1),
        ("d < '2024-01-03'", "(\"d\" < DATE '2024-01-03')", 1),
        ("n = 2.5", '(("n" = 2.50) AND ("n" <> \'NaN\'))', 1),
        ("f > 499", "(\"f\" > '499.0'::float8)", 2),
        ("not ok and a is not null", '((NOT "ok") AND ("a" IS NOT NULL))', 500),
        ("b like '%99' and a < 200", '("a" < 200)', 2),
    ):
        rows = await lake.rows(f"select a from t where {condition}")
        assert len(rows) == count, condition
        assert (await source.last_asked()).endswith(f'FROM "t" WHERE {asked}'), condition
    await lake.rows("select b from t where a = 1")
    assert await source.last_asked() == 'SELECT "b" FROM "t" WHERE ("a" = 1)'
    assert await lake.rows("select count(*) as n from t where a > 10") == [{"n": 990}]
    assert await source.last_asked() == 'SELECT count(*) AS c0 FROM "t" WHERE ("a" > 10) LIMIT 10001'


async def test_what_the_server_cannot_be_asked_is_filtered_here(lakes: Lakes, source: Source) -> None:
    await source.admin.execute(
        """
        create table t (a int, b text, n int[]);
        insert into t select i, 'b' || i, array[i] from generate_series(1, 1000) i;
        """
    )
    lake = await opened(lakes, source.dataset("t", "t"))
    for condition, count in (
        ("b like 'b1%'", 112),
        ("b like 'b1%' or a = 2", 113),
        ("a % 7 = 0", 142),
        ("not (b like 'b1%' or a = 2)", 887),
        ("array_length(n) = 1 and a < 5", 4),
        ("a in (1, 2, 3, 4, null)", 4),
        ("a + 1 = 3", 1),
        ("upper(b) = 'B5' and b <> 'x'", 1),
    ):
        answer = await lake.rows(f"select count(*) as n from t where {condition}")
        assert answer == [{"n": count}], condition


async def test_a_limit_stops_the_server(lakes: Lakes, source: Source) -> None:
    # A view whose thousandth row would come after a minute.
    await source.admin.execute(
        """
        create function slow(i bigint) returns text language plpgsql volatile as
        $$ begin if i > 300000 then perform pg_sleep(0.5); end if; return repeat('x', 20); end $$;
        create view t as select i, slow(i) as s from generate_series(1, 300100) i;
        """
    )
    lake = await opened(lakes, source.dataset("t", "t"))
    assert len(await lake.rows("select s from t limit 3", seconds=20)) == 3
    async with asyncio.timeout(5):
        while await source.reading():
            await asyncio.sleep(0.05)


async def test_a_connection_is_kept_and_a_dead_one_is_replaced(lakes: Lakes, source: Source) -> None:
    await source.admin.execute("create table t as select 1 as a")
    lake = await opened(lakes, source.dataset("t", "t"))
    for _ in range(3):
        assert await lake.rows("select a from t") == [{"a": 1}]
    assert await source.admin.fetchval(f"select count(*) {ACTIVITY}") == 1
    await source.admin.execute(f"select pg_terminate_backend(pid) {ACTIVITY}")
    assert await lake.rows("select a from t") == [{"a": 1}]


async def test_the_connection_cannot_write(lakes: Lakes, source: Source) -> None:
    await source.admin.execute(
        """
        create table log (at timestamptz);
        create function f() returns int language plpgsql as
        $$ begin insert into log values (now()); return 1; end $$;
        create view t as select f() as a;
        """
    )
    lake = await opened(lakes, source.dataset("t", "t"))
    status, body = await lake.sql("select a from t")
    assert (status, body["code"], body["dataset"]) == (502, "source_error", "t")
    assert "read-only transaction" in body["error"]


async def test_a_faulty_source_names_the_fault_and_not_the_password(lakes: Lakes, source: Source) -> None:
    await source.admin.execute("create table t as select 1 as a")
    url = urlsplit(source.dsn)
    string = f"postgresql://{url.username}:wr%40ng-secret@{url.hostname}:{url.port}{url.path}?sslmode=disable"
    plain = {f"pg_{key}": "" for key in ("host", "port", "db", "user", "pass", "sslmode")}
    lake = await opened(
        lakes,
        source.dataset("good", "public", "t"),
        source.dataset("wrong_password", "t", pg_pass="not-the-password"),
        source.dataset("wrong_url", "t", pg_connection_string=string, **plain),
        source.dataset("missing", "public", "nothing"),
        source.dataset("dead", "t", pg_port="1"),
        source.dataset("no_host", "t", pg_host="no-such-host.invalid"),
        source.dataset("socket", "t", pg_host="/tmp"),
        source.dataset("reaching", "t", pg_connection_string="host=127.0.0.1 service=x", **plain),
        source.dataset("tls", "t", pg_sslmode=""),
        source.dataset("injected", "t; drop table t"),
    )
    assert await lake.rows("select a from good") == [{"a": 1}]
    tables = await lake.tables()
    for name, reason in {
        "wrong_password": "password authentication failed",
        "wrong_url": "password authentication failed",
        "missing": 'relation "public.nothing" does not exist',
        "dead": "Connection refused",
        "no_host": "has no address",
        "socket": "pg_host",
        "reaching": "may not set service",
        "tls": "SSL",
        "injected": "does not exist",
    }.items():
        assert tables[name]["status"] == "error", name
        assert reason in tables[name]["error"]["message"], (name, tables[name]["error"])
    assert not any(word in str(tables) for word in ("not-the-password", "wr%40ng", "wr@ng", "driver"))


async def test_a_private_server_is_refused_unless_allowed(lakes: Lakes, source: Source) -> None:
    lake = await opened(lakes, source.dataset("t", "t"), allowPrivate=False)
    assert "not a public address" in (await lake.tables())["t"]["error"]["message"]


async def test_a_table_joins_a_file_and_itself(lakes: Lakes, source: Source) -> None:
    await source.admin.execute("create table t as select i as a, i * 2 as b from generate_series(1, 5) i")
    file = lakes.file("f.csv", "a,name\n1,one\n2,two\n")
    described = {"name": "f", "connector": "file", "format": "csv", "location": str(file), "options": {}}
    lake = await opened(lakes, source.dataset("t", "public", "t"), described)
    query = "select name, y.b from f join t x on x.a = f.a join t y on y.a = x.b order by name"
    assert await lake.rows(query) == [{"name": "one", "b": 4}, {"name": "two", "b": 8}]


async def test_a_number_that_is_none_is_null_to_conditions_too(lakes: Lakes, source: Source) -> None:
    """`NaN` of `numeric` is shown as null; to the server it is greater than every number."""
    await source.admin.execute(
        "create table t (a int, n numeric(9, 2), m numeric(9, 2));"
        "insert into t values (1, 'NaN', 1), (2, 7, 7), (3, null, 3), (4, 2, 'NaN'), (5, 'NaN', 'NaN')"
    )
    lake = await opened(
        lakes, source.dataset("t", "t"), source.dataset("u", "t", query_federation="disabled")
    )
    for condition, found in (
        ("n > 5", [2]),
        ("n >= 2", [2, 4]),
        ("n <> 2", [2]),
        ("n is null", [1, 3, 5]),
        ("n is not null", [2, 4]),
        ("not (n > 5)", [4]),
        ("not (n > 5 and a > 0)", [4]),
        ("not (n in (2, 3, 4, 5, 6))", [2]),
        ("n = m", [2]),
        ("n <= m", [2]),
        ("n > 5 or m > 5", [2]),
    ):
        for table in ("t", "u"):
            rows = await lake.rows(f"select a from {table} where {condition} order by a")
            assert [row["a"] for row in rows] == found, (table, condition)
            assert await lake.rows(f"select count(*) as n from {table} where {condition}") == [
                {"n": len(found)}
            ], (table, condition)
