"""Tables of SQLite and DuckDB files: their types, what their own SQL is asked, and how far they reach."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from .conftest import Lakes


def dataset(name: str, connector: str, path: Path | str, *table: str) -> dict[str, Any]:
    return {
        "name": name,
        "connector": connector,
        "options": {"table": list(table), f"{connector}_open": str(path)},
    }


def sqlite_file(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return path


def duckdb_file(path: Path, *statements: str) -> Path:
    with closing(duckdb.connect(str(path))) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


async def test_an_sqlite_table_keeps_its_values(lakes: Lakes) -> None:
    path = sqlite_file(
        lakes.imports / "a.db",
        'create table "T ""1" (i integer, f real, n decimal(9, 2), ok boolean, s text, d date, b blob, x)',
        """insert into "T ""1" values
           (9007199254740993, 1.5, 2, 1, 'ü''s', '2024-01-02', x'dead', 5), (null, 2, 2.5, 0, null, null, null, 'y')""",
    )
    lake = await lakes.start()
    await lake.configure(dataset("t", "sqlite", path, 'T "1'))
    assert await lake.rows("select * from t order by i") == [
        {
            "i": 9007199254740993,
            "f": 1.5,
            "n": 2.0,
            "ok": True,
            "s": "ü's",
            "d": "2024-01-02",
            "b": "dead",
            "x": "5",
        },
        {"i": None, "f": 2.0, "n": 2.5, "ok": False, "s": None, "d": None, "b": None, "x": "y"},
    ]


@pytest.mark.parametrize("connector", ["sqlite", "duckdb"])
async def test_a_filter_finds_the_same_rows_in_the_file(lakes: Lakes, connector: str) -> None:
    make = sqlite_file if connector == "sqlite" else duckdb_file
    series = "with recursive r(i) as (select 1 union all select i + 1 from r where i < 1000)"
    nocase = "collate nocase" if connector == "sqlite" else ""
    path = make(
        lakes.imports / "f.db",
        f"create table t (a integer, b varchar {nocase}, f double, ok boolean)",
        f"insert into t {series} select i, case when i % 2 = 0 then 'b' else 'B' end || i, i / 2.0, i % 2 = 0 from r",
    )
    lake = await lakes.start()
    await lake.configure(dataset("t", connector, path, "t"))
    for condition, count in (
        ("a = 42", 1),
        ("a in (1, 2, 3, 4, 5000)", 4),
        ("b = 'b42'", 1),
        ("b = 'B42'", 0),
        ("b <> 'B42'", 1000),
        ("b < 'a'", 500),
        ("f >= 499.5", 2),
        ("ok", 500),
        ("not ok and a <= 10", 5),
        ("b like '%99' and a < 200", 2),
        ("a % 7 = 0 or b = 'b2'", 143),
        ("b is null", 0),
    ):
        assert await lake.rows(f"select count(*) as n from t where {condition}") == [{"n": count}], condition
        assert len(await lake.rows(f"select a from t where {condition}")) == count, condition


async def test_an_sqlite_value_of_another_type_names_its_column(lakes: Lakes) -> None:
    path = sqlite_file(
        lakes.imports / "a.db",
        "create table t (a integer, b text)",
        "insert into t values ('seven', 'x')",
    )
    lake = await lakes.start()
    await lake.configure(dataset("t", "sqlite", path, "t"))
    assert await lake.rows("select b from t") == [{"b": "x"}]
    status, body = await lake.sql("select a from t")
    assert (status, body["code"], body["dataset"]) == (502, "source_error", "t")
    assert "column 'a' holds a value that is no int64" in body["error"]


async def test_a_duckdb_table_keeps_its_values(lakes: Lakes) -> None:
    path = duckdb_file(
        lakes.imports / "a.duckdb",
        "create schema s",
        """create table s."T ""1" as select 9007199254740993 as i, 12.34::decimal(9, 2) as n, 1.5::double as f,
           'ü''s' as t, true as ok, date '2024-01-02' as d, timestamp '2024-01-02 03:04:05' as m,
           timestamptz '2024-01-02 03:04:05+02' as z, '4f2c8b1e-0000-4000-8000-00000000002a'::uuid as id,
           'sad'::enum('glad', 'sad') as e, 12::hugeint as h, [1, 2] as l, interval 1 day as v""",
    )
    lake = await lakes.start()
    await lake.configure(dataset("t", "duckdb", path, "db", "s", 'T "1'))
    condition = """n = 12.34 and d = '2024-01-02' and z = '2024-01-02T01:04:05Z' and e = 'sad' and h = 12
        and id = '4f2c8b1e-0000-4000-8000-00000000002a' and m = '2024-01-02T03:04:05'"""
    assert await lake.rows(f"select * from t where {condition}") == [
        {
            "i": 9007199254740993,
            "n": 12.34,
            "f": 1.5,
            "t": "ü's",
            "ok": True,
            "d": "2024-01-02",
            "m": "2024-01-02T03:04:05",
            "z": "2024-01-02T01:04:05Z",
            "id": "4f2c8b1e-0000-4000-8000-00000000002a",
            "e": "sad",
            "h": 12,
            "l": [1, 2],
            "v": "1 day",
        }
    ]


async def test_a_limit_stops_the_file(lakes: Lakes) -> None:
    path = duckdb_file(lakes.imports / "a.duckdb", "create view t as select i from range(100000000000) r(i)")
    lake = await lakes.start()
    await lake.configure(dataset("t", "duckdb", path, "t"))
    assert len(await lake.rows("select i from t limit 3", seconds=10)) == 3


async def test_a_database_file_reaches_nothing_else(lakes: Lakes, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    outside = sqlite_file(tmp_path / "outside.db", "create table t (a integer)")
    (lakes.imports / "link.db").symlink_to(outside)
    path = duckdb_file(
        lakes.imports / "a.duckdb",
        "create table t as select 1 as a",
        f"create view reading as select * from read_csv('{secret}')",
        f"create view listing as select * from glob('{tmp_path}/*')",
    )
    lake = await lakes.start()
    await lake.configure(
        dataset("good", "duckdb", "a.duckdb", "t"),
        dataset("reading", "duckdb", path, "reading"),
        dataset("listing", "duckdb", path, "listing"),
        dataset("function", "duckdb", path, f"read_csv('{secret}')"),
        dataset("outside", "sqlite", outside, "t"),
        dataset("dotted", "sqlite", "../outside.db", "t"),
        dataset("linked", "sqlite", lakes.imports / "link.db", "t"),
        dataset("broken", "sqlite", lakes.file("broken.db", "no database at all" * 100), "t"),
        dataset("missing", "sqlite", sqlite_file(lakes.imports / "b.db", "create table t (a)"), "u"),
    )
    tables = await lake.tables()
    assert await lake.rows("select a from good") == [{"a": 1}]
    for name, reason in {
        "reading": "file system operations are disabled",
        "listing": "disabled",
        "function": "does not exist",
        "outside": "path_not_allowed",
        "dotted": "path_not_allowed",
        "linked": "path_not_allowed",
        "broken": "not a database",
        "missing": "no table 'u'",
    }.items():
        assert tables[name]["status"] == "error", name
        assert reason in tables[name]["error"]["message"], (name, tables[name]["error"])
