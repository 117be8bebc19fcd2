"""A MySQL table as a dataset. Needs a server on 127.0.0.1:3306 whose root has no password."""

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest

from .conftest import Lakes

ADDRESS: dict[str, Any] = {"host": "127.0.0.1", "port": 3306, "user": "root", "password": ""}


class Source:
    """A database of this test, and what its server was asked."""

    def __init__(self, connection: "pymysql.Connection[Any]", name: str) -> None:
        self.connection = connection
        self.name = name

    def do(self, *statements: str) -> list[Any]:
        with self.connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def asked(self) -> list[str]:
        """What connections to this database have asked, in order."""
        rows = self.do(
            "select convert(argument using utf8mb4) from mysql.general_log where command_type = 'Query' "
            f"and argument like '%{self.name}%FROM%' or argument like 'SELECT%{self.name}%' order by event_time"
        )
        return [row[0] for row in rows if "general_log" not in row[0]]

    def dataset(self, name: str, table: str, **options: Any) -> dict[str, Any]:
        return {
            "name": name,
            "connector": "mysql",
            "options": {
                "table": [self.name, table],
                "mysql_host": "127.0.0.1",
                "mysql_user": "root",
                "mysql_sslmode": "disabled",
                **options,
            },
        }


@pytest.fixture
def source() -> Iterator[Source]:
    try:
        connection = pymysql.connect(**ADDRESS, autocommit=True, charset="utf8mb4")
    except pymysql.err.OperationalError as error:
        pytest.skip(f"no MySQL server answers on 127.0.0.1:3306: {error}")
    name = f"weir_{uuid.uuid4().hex[:12]}"
    source = Source(connection, name)
    source.do(
        f"create database {name} character set utf8mb4 collate utf8mb4_general_ci",
        f"use {name}",
        "set sql_mode = ''",
        "set global log_output = 'TABLE'",
        "set global general_log = 1",
    )
    yield source
    source.do("set global general_log = 0", f"drop database {name}")
    connection.close()


async def test_every_type_keeps_its_value(lakes: Lakes, source: Source) -> None:
    source.do(
        """create table t (i int, u bigint unsigned, tiny tinyint(1), n decimal(12, 2), f float, d double,
           s varchar(20), c char(5), e enum('glad', 'sad'), b varbinary(4), day date, moment datetime(6),
           instant timestamp null, hour time, y year, j json, bits bit(4))""",
        """insert into t values (1, 18446744073709551615, 2, 12.34, 1.1, 1.1, 'ü''s', 'ab', 'sad', x'dead',
           '2024-02-29', '2024-01-02 03:04:05.678901', null, '-12:34:56', 2024, '{"a": 1}', b'101')""",
        "insert into t (day, moment) values ('0000-00-00', '2024-00-00')",
    )
    lake = await lakes.start()
    await lake.configure(source.dataset("t", "t"))
    first, second = await lake.rows("select * from t order by i")
    assert first.pop("f") == pytest.approx(1.1)
    assert first == {
        "i": 1,
        "u": 18446744073709551615,
        "tiny": 2,
        "n": 12.34,
        "d": 1.1,
        "s": "ü's",
        "c": "ab",
        "e": "sad",
        "b": "dead",
        "day": "2024-02-29",
        "moment": "2024-01-02T03:04:05.678901",
        "instant": None,
        "hour": "-12:34:56",
        "y": 2024,
        "j": '{"a": 1}',
        "bits": 5,
    }
    assert set(second.values()) == {None}


async def test_columns_and_conditions_are_asked_of_the_server(lakes: Lakes, source: Source) -> None:
    source.do(
        "create table t (a int unsigned primary key, b varchar(20), n decimal(9, 2), d date, m timestamp(6) null)",
        """insert into t select seq, concat(if(seq % 2, 'B', 'b'), seq), seq / 4, '2024-01-01' + interval seq day,
           '2024-01-01' + interval seq hour from seq_1_to_1000""",
        r"insert into t values (2000, 'it''s \\ ', 0, null, null)",
    )
    lake = await lakes.start()
    await lake.configure(source.dataset("t", "t"))
    for condition, asked, count in (
        ("a = 42", "(`a` = 42)", 1),
        ("a in (1, 2, 3, 4, 5000)", "(`a` IN (1, 2, 3, 4, 5000))", 4),
        ("b = 'B42'", "(`b` = 'B42')", 0),
        ("b <> 'B42'", "(CAST(CONVERT(`b` USING utf8mb4) AS BINARY) <> 'B42')", 1001),
        (r"b = 'it''s \ '", r"(`b` = 'it''s \\ ')", 1),
        ("n = 2.5", "(`n` = 2.50)", 1),
        (
            "d < '2024-01-03'",
            "((`d` < DATE '2024-01-03') AND (MONTH(`d`) > 0 AND DAYOFMONTH(`d`) > 0))",
            1,
        ),
        (
            "m <= '2024-01-01T02:00:00Z'",
            "((`m` <= TIMESTAMP '2024-01-01 02:00:00') AND (MONTH(`m`) > 0 AND DAYOFMONTH(`m`) > 0))",
            2,
        ),
        ("b like '%99' and a < 200", "(`a` < 200)", 2),
    ):
        rows = await lake.rows(f"select a from t where {condition}")
        assert len(rows) == count, condition
        assert source.asked()[-1].endswith(f"FROM `{source.name}`.`t` WHERE {asked}"), condition
        assert await lake.rows(f"select count(*) as n from t where {condition}") == [{"n": count}], condition
    await lake.rows("select n from t where a = 1")
    assert source.asked()[-1] == f"SELECT `n` FROM `{source.name}`.`t` WHERE (`a` = 1)"


async def test_a_date_of_zeros_is_null_to_conditions_too(lakes: Lakes, source: Source) -> None:
    source.do(
        "create table t (a int, d date)",
        "insert into t values (1, '0000-00-00'), (2, '2024-00-10'), (3, '2024-05-00'), (4, null), (5, '2024-05-06')",
    )
    lake = await lakes.start()
    await lake.configure(source.dataset("t", "t"), source.dataset("u", "t", query_federation="disabled"))
    for condition, found in (
        ("d < '2025-01-01'", [5]),
        ("d <> '2024-01-01'", [5]),
        ("d is null", [1, 2, 3, 4]),
        ("d is not null", [5]),
        ("not (d > '2025-01-01')", [5]),
        ("not (d in ('2024-05-06', '2024-05-07', '2024-05-08', '2024-05-09'))", []),
        ("not (d > '2025-01-01' and a > 0)", [5]),
    ):
        for table in ("t", "u"):
            rows = await lake.rows(f"select a from {table} where {condition} order by a")
            assert [row["a"] for row in rows] == found, (table, condition)
            assert await lake.rows(f"select count(*) as n from {table} where {condition}") == [
                {"n": len(found)}
            ]
    smallest = "select min(d) as d, count(d) as n, count(distinct d) as k from {}"
    assert (
        await lake.rows(smallest.format("t"))
        == await lake.rows(smallest.format("u"))
        == [{"d": "2024-05-06", "n": 1, "k": 1}]
    )


async def test_a_query_that_is_left_ends_at_the_server(lakes: Lakes, source: Source) -> None:
    source.do(
        "create table t (a int)",
        "insert into t select seq from seq_1_to_2000",
        "create view slow as select x.a + sleep(0.01) as a from t x join t y",
    )
    lake = await lakes.start()
    await lake.configure(source.dataset("t", "slow"))
    await lake.tables()
    status, answer = await lake.sql("select min(a) as m, count(*) as n from t", seconds=1)
    assert (status, answer["code"]) == (504, "timeout")
    busy = f"select count(*) from information_schema.processlist where id <> connection_id() and info like 'SELECT min%`{source.name}`%'"
    async with asyncio.timeout(5):
        while source.do(busy) != [(0,)]:
            await asyncio.sleep(0.05)


async def test_a_limit_stops_the_server(lakes: Lakes, source: Source) -> None:
    source.do(
        "create table t (a int)",
        "insert into t select seq from seq_1_to_100000",
        "create view v as select x.a, y.a as b from t x join t y",
    )
    lake = await lakes.start()
    await lake.configure(source.dataset("t", "v"))
    assert len(await lake.rows("select a, b from t limit 3", seconds=10)) == 3
    busy = f"select count(*) from information_schema.processlist where id <> connection_id() and info like 'SELECT%`{source.name}`%'"
    async with asyncio.timeout(5):
        while source.do(busy) != [(0,)]:
            await asyncio.sleep(0.05)


async def test_a_faulty_source_names_the_fault_and_not_the_password(lakes: Lakes, source: Source) -> None:
    source.do("create table t as select 1 as a")
    url = "mysql://root:wrong-secret@127.0.0.1:3306"
    lake = await lakes.start()
    await lake.configure(
        source.dataset("good", "t"),
        source.dataset("wrong_password", "t", mysql_pass="not-the-password"),
        source.dataset("wrong_url", "t", mysql_connection_string=url),
        source.dataset("missing", "nothing"),
        source.dataset("dead", "t", mysql_tcp_port="1"),
        source.dataset("tls", "t", mysql_sslmode=""),
    )
    assert await lake.rows("select a from good") == [{"a": 1}]
    mine = "user = 'root' and id <> connection_id() and db is null"
    for (identity,) in source.do(f"select id from information_schema.processlist where {mine}"):
        source.do(f"kill {identity}")
    assert await lake.rows("select a from good") == [{"a": 1}]
    tables = await lake.tables()
    for name, reason in {
        "wrong_password": "Access denied",
        "wrong_url": "Access denied",
        "missing": "doesn't exist",
        "dead": "Connection refused",
        "tls": "SSL is required",
    }.items():
        assert tables[name]["status"] == "error", name
        assert reason in tables[name]["error"]["message"], (name, tables[name]["error"])
    assert not any(word in str(tables) for word in ("not-the-password", "wrong-secret"))
