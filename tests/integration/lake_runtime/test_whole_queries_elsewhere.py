"""Whole queries asked of MySQL, SQLite and DuckDB: that they are, that the answer is the engine's own, and when not."""

import asyncio
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pymysql
import pytest
from datafusion import DataFrame

from weir.lake_runtime.catalog import LakeCatalog, Scope, planning
from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.pushdown import push_whole
from weir.lake_runtime.relations import Opened, Relation
from weir.lake_runtime.session import CATALOG, answering_session
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources.database import Asked as Statement
from weir.lake_runtime.sources.opening import open_source
from weir.lake_runtime.task_history import TaskHistory
from weir.lake_runtime.wire import Dataset

from .conftest import Lakes
from .test_mysql import ADDRESS

# Texts whose order differs between a language's rules and bytes, nulls everywhere, ties, and large numbers.
SHOPS = ("a", "B", "b", "Z", "ä", "É", "", "a ", None)
ROWS: list[tuple[Any, ...]] = [
    (
        i,
        SHOPS[i % 9],
        ("x", "X", "y")[i % 3],
        i % 11 - 5,
        i * 10_000_000_001 if i % 5 else None,
        f"{(i % 100) / 4 - 5:.2f}" if i % 9 else None,
        i / 7,
        (True, False, None)[i % 3],
        f"2024-01-{1 + i % 28:02}",
    )
    for i in range(1, 301)
] + [(i, "a", "x", 5, 2**63 - 1, None, None, None, None) for i in (301, 302)]
RANKS: list[tuple[Any, ...]] = [
    ("a", "Oslo", 1),
    ("B", "Rom", 2),
    ("b", "Rom", 3),
    (None, "Bonn", None),
    ("a", "Köln", 4),
]
COLUMNS = "(id integer, shop varchar(20) {nocase}, kind varchar(10) {nocase}, whole integer, big bigint, price {decimal}, ratio double, ok boolean, day date)"
OTHERS = "(name varchar(20) {nocase}, city varchar(20), place integer)"

ALIKE = (
    "select count(*) as n from s",
    "select count(*) as n, count(price) as p, count(shop) as t, count(ratio) as f from s where whole > 0",
    "select sum(whole) as b, sum(big) as c, min(whole) as d, max(big) as e from s where id < 300",
    "select min(shop) as a, max(shop) as b, min(kind) as c, max(kind) as d from s",
    "select min(day) as a, max(day) as b from s where day > '2024-01-05'",
    "select sum(whole) as a, min(shop) as b, count(*) as d from s where id < 0",
    "select shop, count(*) as n, sum(whole) as w from s group by shop order by shop",
    "select shop, count(*) as n from s group by shop order by shop desc limit 3",
    "select shop, count(*) as n from s group by shop order by shop desc nulls last limit 4 offset 2",
    "select shop, count(*) as n from s group by shop order by shop asc nulls first limit 4",
    "select shop, count(*) as n from s group by shop order by shop nulls last offset 5",
    "select kind, count(*) as n, min(shop) as m from s group by kind order by kind nulls first",
    "select day, sum(whole) as w from s where day >= '2024-01-10' group by day order by w desc, day limit 5",
    "select big from s order by big desc nulls first, id limit 70",
    "select id, big from s order by big asc nulls last, id desc limit 5",
    "select count(distinct shop) as n, count(distinct kind) as k, count(distinct whole) as w from s",
    "select distinct shop, kind from s order by shop, kind",
    "select shop, sum(whole) as w from s group by shop having count(*) > 10 and sum(whole) > -3 order by shop",
    "select id, shop, ratio, ok from s order by shop nulls first, id limit 20",
    "select id from s where shop = 'b' and kind <> 'x' order by id limit 50",
    "select id from s where kind in ('X', 'Y') and not (shop = 'a') order by id limit 50",
    "select id, day from s where not (whole in (1, 2)) and big is not null order by day, id limit 9",
    "select s.shop, h.city, count(*) as n from s join h on s.shop = h.name group by 1, 2 order by 1, 2",
    "select h.name, count(s.id) as n from h left join s on s.shop = h.name and s.whole > 0 group by h.name order by 1, 2",
    "select s.id, h.name, h.place from h right join s on s.whole = h.place order by s.id, h.name limit 30",
    "select count(*) as n from s where shop in (select name from h where place > 1)",
    "select count(*) as n from s a join s b on a.id = b.whole where a.shop < b.shop",
    "with top as (select shop, max(whole) as p from s group by shop) select count(*) as n, min(p) as p from top",
    "select min(shop) as m from (select shop from s order by id limit 100) t",
    "select count(*) as n from s where whole = id",
)
# By one or two of them only; the rest leave it to the engine.
ALIKE_IN = {
    "select id from s where ok and not (whole in (1, 2)) order by id limit 9": {"sqlite", "duckdb"},
    "select sum(price) as a, min(price) as b, max(price) as c from s": {"mysql", "duckdb"},
    "select price, count(*) as n from s where price > 1.5 group by price order by price desc limit 5": {
        "mysql",
        "duckdb",
    },
    "select shop, avg(whole) as w from s group by shop order by shop": {"sqlite", "duckdb"},
    "select avg(big) as a, avg(whole) as b from s where whole < 0": {"sqlite", "duckdb"},
    "select avg(price) as a from s": set[str](),
    "select ok, count(*) as n from s group by ok order by ok": {"duckdb", "mysql"},
}
LEFT = (
    "select sum(ratio) as a, avg(ratio) as b from s where id < 9",
    "select max(ratio) as a from s",
    "select id from s order by ratio desc, id limit 3",
    "select upper(shop) as u, count(*) as n from s group by 1 order by 1",
    "select whole + 1 as w, count(*) as n from s group by 1 order by 1",
    "select count(*) as n from s where shop like 'B%' or whole / 2 = 1",
    "select stddev(whole) as d from s where id < 3",
    "select count(*) filter (where ok) as n from s",
    "select id, row_number() over (order by id) as n from s order by id limit 2",
    "select count(*) as n from h where name not in (select shop from s where id = 9)",
    "select count(*) as n from s where whole > 1.5",
)


class Asked:
    """Two tables of one place, and the engine's session over them."""

    def __init__(self, settings: RuntimeSettings, *datasets: Dataset) -> None:
        self.relations = {dataset.name: Relation(dataset) for dataset in datasets}
        for alias, relation in enumerate(self.relations.values()):
            assert isinstance(relation.definition, Dataset)
            opened = open_source(relation.definition, alias, settings)
            relation.opened(Opened(opened.table, source=opened.source))
        self.session = answering_session(settings)
        catalog: Any = LakeCatalog(self.relations, TaskHistory())
        self.session.register_catalog_provider(CATALOG, catalog)

    def plan(self, query: str) -> tuple[DataFrame, pa.Table | None]:
        """The engine's own frame, and what the source answers if it is asked."""
        with planning(Scope()):
            frame = self.session.sql(query)
            pushed = push_whole(self.session, frame, 1000, self.relations.values())
        if pushed is None:
            return frame, None
        batches = [pushed.adapt(batch.to_pyarrow()) for batch in pushed.frame.execute_stream()]
        return frame, pa.Table.from_batches(batches, schema=pushed._schema)


@pytest.fixture(params=["mysql", "sqlite", "duckdb"], scope="module")
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Asked]]:
    home = tmp_path_factory.mktemp("whole")
    settings = RuntimeSettings(
        tenant="t", epoch=1, secret="s", memory_limit_bytes=2**29, import_root=home, cache_dir=home, allow_private=True
    )  # fmt: skip
    settings.spill_dir.mkdir(parents=True)
    connector = request.param
    make = {"mysql": in_mysql, "sqlite": in_sqlite, "duckdb": in_duckdb}[connector]
    with make(home) as options:
        yield (
            connector,
            Asked(
                settings,
                *(
                    Dataset(
                        name=name,
                        connector=connector,
                        options={**options, "table": [*options["table"], name]},
                    )
                    for name in ("s", "h")
                ),
            ),
        )


class in_sqlite:
    def __init__(self, home: Path) -> None:
        self.path = home / "f.db"

    def __enter__(self) -> dict[str, Any]:
        with closing(sqlite3.connect(self.path)) as connection:
            fill(connection, "?", nocase="collate nocase", decimal="decimal(9, 2)")
            connection.commit()
        return {"table": [], "sqlite_open": str(self.path)}

    def __exit__(self, *_: object) -> None:
        pass


class in_duckdb:
    def __init__(self, home: Path) -> None:
        self.path = home / "f.duckdb"

    def __enter__(self) -> dict[str, Any]:
        with closing(duckdb.connect(str(self.path))) as connection:
            fill(connection, "?", nocase="collate nocase", decimal="decimal(9, 2)")
        return {"table": [], "duckdb_open": str(self.path)}

    def __exit__(self, *_: object) -> None:
        pass


class in_mysql:
    """Needs a server on 127.0.0.1:3306 whose root has no password."""

    def __init__(self, _: Path) -> None:
        try:
            self.connection = pymysql.connect(**ADDRESS, autocommit=True, charset="utf8mb4")
        except pymysql.err.OperationalError as error:
            pytest.skip(f"no MySQL server answers on 127.0.0.1:3306: {error}")
        self.name = f"weir_{uuid.uuid4().hex[:12]}"

    def __enter__(self) -> dict[str, Any]:
        cursor = self.connection.cursor()
        cursor.execute(f"create database {self.name} character set utf8mb4 collate utf8mb4_general_ci")
        cursor.execute(f"use {self.name}")
        fill(cursor, "%s", nocase="", decimal="decimal(9, 2)")
        server = {"mysql_host": "127.0.0.1", "mysql_user": "root", "mysql_sslmode": "disabled"}
        return {"table": [self.name], **server}

    def __exit__(self, *_: object) -> None:
        self.connection.cursor().execute(f"drop database {self.name}")
        self.connection.close()


def fill(cursor: Any, sign: str, **words: str) -> None:
    cursor.execute(f"create table s {COLUMNS.format(**words)}")
    cursor.execute(f"create table h {OTHERS.format(**words)}")
    for table, rows in (("s", ROWS), ("h", RANKS)):
        cursor.executemany(f"insert into {table} values ({', '.join([sign] * len(rows[0]))})", rows)


def alike(pushed: pa.Table, frame: DataFrame) -> None:
    expected = frame.limit(1000).to_arrow_table()
    assert pushed.to_pylist() == expected.to_pylist()
    assert [str(t).removesuffix("_view") for t in pushed.schema.types] == [
        str(t).removesuffix("_view") for t in expected.schema.types
    ]


@pytest.mark.parametrize("query", ALIKE)
def test_a_query_of_one_place_is_asked_of_it_and_answered_alike(place: tuple[str, Asked], query: str) -> None:
    frame, pushed = place[1].plan(query)
    assert pushed is not None
    alike(pushed, frame)


@pytest.mark.parametrize("query", ALIKE_IN)
def test_what_some_compute_alike_is_asked_of_those(place: tuple[str, Asked], query: str) -> None:
    connector, asked = place
    frame, pushed = asked.plan(query)
    assert (pushed is not None) is (connector in ALIKE_IN[query])
    if pushed is not None:
        alike(pushed, frame)


@pytest.mark.parametrize("query", LEFT)
def test_what_may_mean_something_else_there_is_left_to_the_engine(
    place: tuple[str, Asked], query: str
) -> None:
    assert place[1].plan(query)[1] is None


def test_a_sum_beyond_its_type_is_told_and_not_cut(place: tuple[str, Asked]) -> None:
    with pytest.raises(Exception, match=r"(?i)overflow|out of range|no int64|convert"):
        place[1].plan("select sum(big) as b from s where id > 300")


async def test_an_sqlite_value_of_another_type_fails_in_a_whole_query_too(lakes: Lakes) -> None:
    with closing(sqlite3.connect(lakes.imports / "a.db")) as connection:
        connection.execute("create table t (a integer, b text)")
        connection.execute("insert into t values ('seven', 'x'), (1, 'y')")
        connection.commit()
    options = {"table": ["t"], "sqlite_open": "a.db"}
    lake = await lakes.start()
    await lake.configure(
        {"name": "t", "connector": "sqlite", "options": options},
        {"name": "u", "connector": "sqlite", "options": {**options, "query_federation": "disabled"}},
    )
    assert await lake.rows("select count(b) as n, min(b) as m from t") == [{"n": 2, "m": "x"}]
    for table in ("t", "u"):
        for query in (
            "select sum(a) as s from {}",
            "select a from {} order by a",
            "select max(a) as m from {}",
        ):
            status, body = await lake.sql(query.format(table))
            assert (status, body["code"], body["dataset"]) == (502, "source_error", table)
            assert "column 'a' holds a value that is no int64" in body["error"] or table == "u"


@pytest.mark.parametrize("connector", ["sqlite", "duckdb"])
async def test_a_query_that_is_left_ends_in_the_file(lakes: Lakes, connector: str) -> None:
    path = lakes.imports / "a.db"
    if connector == "sqlite":
        endless = "with recursive r(i) as (select 1 union all select i + 1 from r where i < 100000000000) select i from r"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"create view t (i) as {endless}")
            connection.commit()
    else:
        with closing(duckdb.connect(str(path))) as duck:
            duck.execute("create view t as select (i * 7) % 10000019 as i from range(100000000000) r(i)")
    lake = await lakes.start()
    await lake.configure(
        {"name": "t", "connector": connector, "options": {"table": ["t"], f"{connector}_open": str(path)}}
    )
    await lake.tables()
    status, answer = await lake.sql("select max(i) as m, count(*) as n from t", seconds=1)
    assert (status, answer["code"]) == (504, "timeout")
    before = lake.cpu_seconds()
    await asyncio.sleep(1.5)
    assert lake.cpu_seconds() - before < 0.7


def test_a_source_error_is_what_a_source_raises(place: tuple[str, Asked]) -> None:
    relation = place[1].relations["s"]
    assert relation.source is not None
    database: Any = relation.source.database
    with pytest.raises(SourceError):
        list(database.ask("SELECT nothing FROM nowhere", pa.schema([("c0", pa.int64())]), Statement()))
