"""Whole queries asked of a PostgreSQL server: that they are, that the answer is the engine's own, and when not."""

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from .conftest import Lakes, RuntimeClient
from .test_postgres import Source, source  # noqa: F401 - a fixture

INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))

# Texts whose order differs between a language's rules and the engine's bytes, and numbers that do not divide.
SETUP = """
    create table sales (
        id int primary key, shop text, kind varchar(10), code char(4),
        small smallint, whole int, big bigint, price numeric(9,2), loose numeric, ratio float8,
        ok bool, day date, moment timestamp, instant timestamptz, ref uuid, doc jsonb
    );
    insert into sales
    select i, (array['a', 'B', 'b', 'Z', 'ä', 'É', '', null])[1 + i % 8], (array['x', 'X', 'y'])[1 + i % 3],
        (array['p', 'q'])[1 + i % 2], nullif(i % 7, 0), i % 11 - 5, case when i % 5 > 0 then i * 10000000001 end,
        case when i % 9 > 0 then (i % 100) / 3.0 - 5 end, i / 7.0, case i % 4 when 0 then 'NaN' else i / 3.0 end,
        case i % 3 when 0 then true when 1 then false end, date '2024-01-01' + i % 40,
        timestamp '2024-01-01' + i % 40 * interval '1 hour 1 microsecond',
        timestamptz '2024-01-01 00:00+02' + i % 40 * interval '1 day', md5((i % 5)::text)::uuid, '{"a": 1}'
    from generate_series(1, 500) i;
    insert into sales (id, price) values (501, 'NaN');
    create table shops (name text, city text, rank int);
    insert into shops values ('a', 'Oslo', 1), ('B', 'Rom', 2), ('b', 'Rom', 3), (null, 'Bonn', null), ('a', 'Köln', 4)
"""

# Where the server knows languages: `B` after `b` and `ä` after `a`, and `x` that equals `X`.
COLLATIONS = """
    create collation no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    alter table sales alter shop type text collate "en-x-icu", alter kind type varchar(10) collate no_case;
    alter table shops alter name type text collate "en-x-icu"
"""

# Each asks the server once for everything; `{s}` and `{h}` are the two tables.
PUSHED = (
    "select count(*) as n from {s}",
    "select count(*) as n, count(price) as p, count(shop) as t, count(ratio) as f from {s} where whole > 0",
    "select sum(small) as a, sum(whole) as b, sum(big) as c, sum(price) as d from {s}",
    "select avg(small) as a, avg(whole) as b, avg(big) as c, avg(price) as d from {s}",
    "select avg(price) as d, avg(whole) as w from {s} where price < 0",
    "select min(shop) as a, max(shop) as b, min(kind) as c, max(code) as d, min(ref) as e, max(doc) as f from {s}",
    "select min(small) as a, max(big) as b, min(price) as c, max(loose) as d, min(day) as e, max(moment) as f, "
    "max(instant) as g from {s}",
    "select sum(price) as a, min(shop) as b, avg(whole) as c, count(*) as d from {s} where id < 0",
    "select shop, count(*) as n, sum(price) as p, avg(whole) as w from {s} group by shop order by shop",
    "select shop, count(*) as n from {s} group by shop order by shop desc limit 3",
    "select kind, count(*) as n, min(shop) as m from {s} group by kind order by kind nulls first",
    "select code, ok, count(*) as n from {s} group by code, ok order by code, ok desc nulls last",
    "select day, sum(whole) as w from {s} where day >= '2024-01-10' group by day order by w desc, day limit 5",
    "select price, loose from {s} group by price, loose order by price desc, loose limit 7",
    "select ref, count(*) as n from {s} group by ref order by 2 desc, 1",
    "select count(distinct shop) as n from {s}",
    "select count(distinct kind) as k, count(distinct whole) as w from {s}",
    "select distinct shop, kind from {s} order by shop, kind",
    "select shop, avg(whole) as w from {s} group by shop having count(*) > 10 and avg(whole) > -0.1 order by shop",
    "select id, shop, ratio, price, doc from {s} order by shop nulls first, id limit 20",
    "select id from {s} order by kind desc, id limit 5 offset 3",
    "select * from {s} order by id limit 10",
    "select id, moment, instant from {s} where moment > '2024-01-02T03:00:00' order by instant desc, id limit 4",
    "select id from {s} where shop = 'b' and kind <> 'x' and price between 1 and 2.5 order by id limit 50",
    "select id, day from {s} where ok and not (whole in (1, 2)) and big is not null order by day, id limit 9",
    "select s.shop, h.city, count(*) as n from {s} s join {h} h on s.shop = h.name group by 1, 2 order by 1, 2",
    "select h.name, count(s.id) as n, sum(s.price) as p from {h} h left join {s} s on s.shop = h.name and s.ok "
    "group by h.name order by 1, 2",
    "select s.id, h.name, h.rank from {h} h right join {s} s on s.whole = h.rank order by s.id, h.name limit 30",
    "select count(*) as n from {s} where shop in (select name from {h} where rank > 1)",
    "select count(*) as n from {s} a join {s} b on a.id = b.whole where a.shop < b.shop",
    "with top as (select shop, max(price) as p from {s} group by shop) select count(*) as n, min(p) as p from top",
    "select min(shop) as m from (select shop from {s} order by id limit 100) t",
    "select count(*) as n from {s} where whole = small",
    "select count(*) as n from {s} a join {s} b on a.small = b.id",
)

# What has another meaning there, or none that is known, is left to the engine.
NOT_PUSHED = (
    "select sum(ratio) as a, avg(ratio) as b from {s} where ratio = ratio and id % 4 > 0 and id < 9",
    "select max(ratio) as a from {s}",
    "select ratio, count(*) as n from {s} group by ratio order by 2 desc, 1 limit 3",
    "select id from {s} order by ratio desc, id limit 3",
    "select upper(shop) as u, count(*) as n from {s} group by 1 order by 1",
    "select whole + 1 as w, count(*) as n from {s} group by 1 order by 1",
    "select sum(price * 2) as p from {s}",
    "select count(*) as n from {s} where shop like 'B%' or whole / 2 = 1",
    "select sum(loose) as s, avg(loose) as a from {s}",
    "select stddev(whole) as d from {s} where id < 3",
    "select count(*) filter (where ok) as n from {s}",
    "select shop, whole, sum(whole) as n from {s} group by grouping sets ((shop), (whole)) order by 1, 2",
    "select id, row_number() over (order by id) as n from {s} order by id limit 2",
    "select id from (select id from {s} where id < 3 union all select id from {s} where id < 2) t order by id",
    "select count(*) as n from {h} where name not in (select shop from {s} where id = 8)",
    "select count(*) as n from {s} where whole > 1.5",
)


@pytest.fixture(scope="module")
def postgres_dsn(postgres_dsn: str) -> Iterator[str]:
    """A server of the machine's own if there is one: the embedded one knows no language's order."""
    if not INSTALLED:
        yield postgres_dsn
        return
    programs = INSTALLED[-1].parent
    home = Path(tempfile.mkdtemp(prefix="weir-pg-"))
    # It refuses to be root.
    user = pwd.getpwnam("nobody").pw_uid if os.getuid() == 0 else None
    if user is not None:
        os.chown(home, user, -1)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    initdb = [programs / "initdb", "-D", home / "data", "-U", "weir", "-A", "trust", "-E", "UTF8", "-N"]
    subprocess.run(initdb, check=True, user=user, cwd=home, stdout=subprocess.DEVNULL)
    options = [
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-k",
        home,
        "-c",
        "fsync=off",
        "-c",
        "log_min_messages=fatal",
    ]
    server = subprocess.Popen([programs / "postgres", "-D", home / "data", *options], user=user, cwd=home)
    try:
        dsn = f"postgresql://weir:unused@127.0.0.1:{port}/postgres"
        ThreadPoolExecutor(1).submit(lambda: asyncio.run(_answers(dsn))).result()
        yield dsn
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(home)


async def _answers(dsn: str) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            connection = await asyncpg.connect(dsn)
        except (OSError, asyncpg.CannotConnectNowError):
            assert time.monotonic() < until, "the server does not answer"
            await asyncio.sleep(0.1)
        else:
            await connection.close()
            return


@pytest.fixture
async def lake(lakes: Lakes, source: Source) -> RuntimeClient:  # noqa: F811
    await source.admin.execute(SETUP)
    if INSTALLED:
        await source.admin.execute(COLLATIONS)
    lake = await lakes.start()
    off = {"query_federation": "disabled"}
    await lake.configure(
        source.dataset("Sales", "public", "sales"),
        source.dataset("my.shops", "shops"),
        source.dataset("sales_off", "sales", **off),
        source.dataset("shops_off", "shops", **off),
        views=[{"name": "by_shop", "sql": "select shop, count(*) as n from sales group by shop"}],
    )
    await lake.tables()
    return lake


def on(query: str) -> str:
    return query.format(s="Sales", h="my.shops")


def off(query: str) -> str:
    return query.format(s="sales_off", h="shops_off")


@pytest.mark.parametrize("query", PUSHED)
async def test_a_query_of_one_server_is_asked_of_it_and_answered_alike(
    lake: RuntimeClient,
    source: Source,  # noqa: F811
    query: str,
) -> None:
    answer = await lake.sql(on(query))
    assert answer[0] == 200, answer
    asked = await source.last_asked()
    assert "c0" in asked, asked
    status, expected = await lake.sql(off(query))
    assert status == 200
    assert answer[1]["rows"] == expected["rows"]
    assert answer[1]["schema"] == expected["schema"]
    assert "c0" not in await source.last_asked()


@pytest.mark.parametrize("query", NOT_PUSHED)
async def test_what_may_mean_something_else_there_is_left_to_the_engine(
    lake: RuntimeClient,
    source: Source,  # noqa: F811
    query: str,
) -> None:
    answer = await lake.sql(on(query))
    assert answer[0] == 200, answer
    assert "c0" not in await source.last_asked()
    assert answer[1]["rows"] == (await lake.sql(off(query)))[1]["rows"]


async def test_the_servers_plan_groups_and_limits(lake: RuntimeClient, source: Source) -> None:  # noqa: F811
    """What the server makes of the statement, in its own words: it aggregates, and few rows leave it."""
    await lake.rows(
        "select shop, sum(price) as p from Sales where id = 77 group by shop order by p desc limit 2"
    )
    plan = await source.admin.fetch(f"explain {await source.last_asked()}")
    text = "\n".join(row[0] for row in plan)
    assert "Aggregate" in text or "Group" in text
    assert "Limit" in text
    assert "sales_pkey" in text


async def test_a_view_and_its_callers_query_are_one_statement(lake: RuntimeClient, source: Source) -> None:  # noqa: F811
    rows = await lake.rows("select max(n) as m from by_shop")
    assert "max(" in await source.last_asked()
    assert rows == await lake.rows(
        "select max(n) as m from (select count(*) as n from sales_off group by shop)"
    )


async def test_tables_of_two_servers_or_users_are_joined_here(
    lakes: Lakes,
    source: Source,  # noqa: F811
) -> None:
    await source.admin.execute("create table t (a int); insert into t values (1), (2)")
    lake = await lakes.start()
    await lake.configure(source.dataset("t", "t"), source.dataset("u", "t", pg_sslmode="prefer"))
    assert await lake.rows("select count(*) as n from t join u on t.a = u.a") == [{"n": 2}]
    assert "JOIN" not in await source.last_asked()


async def test_duplicate_names_and_capped_answers_are_told_as_ever(lake: RuntimeClient) -> None:
    status, answer = await lake.sql(
        "select s.id, t.id from Sales s join Sales t on s.id = t.id order by 1", maxRows=2
    )
    assert status == 200
    assert answer["truncated"] is True
    assert answer["rows"] == [{"id": 1, "id_1": 1}, {"id": 2, "id_1": 2}]
    assert [column["name"] for column in answer["schema"]] == ["id", "id_1"]


async def test_a_query_that_is_left_ends_at_the_server(lake: RuntimeClient, source: Source) -> None:  # noqa: F811
    await source.admin.execute("create view slow as select id, shop, pg_sleep(0.05)::text as s from sales")
    await lake.configure(source.dataset("slow", "slow"), version=2)
    await lake.tables()
    started = time.monotonic()
    status, answer = await lake.sql("select max(s) as m from slow", seconds=1)
    assert (status, answer["code"]) == (504, "timeout")
    assert time.monotonic() - started < 5
    until = time.monotonic() + 5
    while await source.reading():
        assert time.monotonic() < until, "the server still works on it"
        await asyncio.sleep(0.05)


async def test_what_the_server_says_is_told_as_the_datasets_fault(
    lake: RuntimeClient,
    source: Source,  # noqa: F811
) -> None:
    await source.admin.execute("drop table sales")
    status, answer = await lake.sql("select shop, count(*) as n from Sales group by shop")
    assert (status, answer["code"], answer["dataset"]) == (502, "source_error", "Sales")
    assert "does not exist" in answer["error"]
