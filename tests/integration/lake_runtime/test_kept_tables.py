"""What a runtime keeps in memory of small hot files, and that nobody can tell but by the clock."""

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from datafusion.catalog import Table

from weir.lake_runtime import kept_tables
from weir.lake_runtime.kept_tables import KeptTables
from weir.lake_runtime.plans_kept import Plan, PlansKept
from weir.lake_runtime.relations import Opened, Relation
from weir.lake_runtime.session import opening_session
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources.opening import open_source
from weir.lake_runtime.wire import Dataset

from .conftest import MEBIBYTE, Lakes, RuntimeClient, dataset


def aged(path: Path, content: str, *, seconds: int = 60) -> Path:
    """A file that was written a while ago, as files mostly were."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    moment = time.time() - seconds
    os.utime(path, (moment, moment))
    return path


async def keeps(lake: RuntimeClient, table: str) -> bool:
    rows = await lake.rows(f"explain select * from {table}", useCache=False)
    return not any("file_groups" in row["plan"] for row in rows)


async def until_kept(lake: RuntimeClient, table: str) -> None:
    until = time.monotonic() + 15
    while not await keeps(lake, table):
        assert time.monotonic() < until, "it is not kept"
        await asyncio.sleep(0.05)


@pytest.fixture(autouse=True)
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: a file's inode cannot be made old, so young ones are trusted where that is not the matter."""
    monkeypatch.setattr(kept_tables, "_SETTLED_NANOSECONDS", -1_000_000_000)


async def test_a_hot_file_is_read_from_memory_and_a_change_is_seen_by_the_next_query(lakes: Lakes) -> None:
    path = aged(lakes.imports / "t.csv", "a\n1\n2\n")
    lake = await lakes.start(keptTablesBytes=16 * MEBIBYTE)
    await lake.configure(dataset("t", path))
    query = "select a from t order by a"

    await until_kept(lake, "t")
    assert await lake.rows(query, useCache=False) == [{"a": 1}, {"a": 2}]
    # Of the same size, under the same name, and as old as the one before.
    moment = path.stat().st_mtime_ns
    path.write_text("a\n3\n4\n")
    os.utime(path, ns=(moment, moment))
    assert await lake.rows(query, useCache=False) == [{"a": 3}, {"a": 4}]
    path.unlink()
    # As the engine has it: a listing without files.
    assert await lake.rows(query, useCache=False) == []


async def test_a_new_file_of_a_kept_folder_is_seen_by_the_next_query(lakes: Lakes) -> None:
    first = aged(lakes.imports / "f" / "1.csv", "a\n1\n")
    lake = await lakes.start(keptTablesBytes=16 * MEBIBYTE)
    await lake.configure(dataset("f", first.parent))

    await until_kept(lake, "f")
    (first.parent / "2.csv").write_text("a\n2\n")
    assert await lake.rows("select a from f order by a", useCache=False) == [{"a": 1}, {"a": 2}]


async def test_nothing_is_kept_unless_it_is_asked_for(lakes: Lakes) -> None:
    path = aged(lakes.imports / "t.csv", "a\n1\n")
    lake = await lakes.start()
    await lake.configure(dataset("t", path))
    assert [await keeps(lake, "t") for _ in range(4)] == [False] * 4


class Moment:
    """A clock and a resident set that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.resident = 0


def settings_of(home: Path, *, kept: int = 8 * MEBIBYTE) -> RuntimeSettings:
    return RuntimeSettings(
        tenant="t",
        epoch=1,
        secret="s",
        memory_limit_bytes=1024 * MEBIBYTE,
        cache_dir=home,
        import_root=home,
        most_kept_bytes=kept,
    )


def opened(settings: RuntimeSettings, path: Path) -> Relation:
    definition = Dataset(name=path.stem, connector="file", location=str(path), format="csv")
    source = open_source(definition, 1, settings)
    relation = Relation(definition)
    relation.opened(Opened(source.table, source.location))
    return relation


def asked(tables: KeptTables, relations: Iterable[Relation], *, times: int = 2) -> list[bool]:
    """Ask until copies have been made or not; whether there is one of each."""
    relations = list(relations)
    for _ in range(times):
        for relation in relations:
            tables.find(relation)
    while tables.is_reading:
        time.sleep(0.01)
    return [tables.find(relation) is not None for relation in relations]


async def test_a_copy_has_the_rows_in_the_file_s_order(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    relation = opened(
        settings, aged(tmp_path / "t.csv", "a,b\n" + "".join(f"{i},x{i}\n" for i in range(50_000)))
    )
    tables = KeptTables(settings, resident=lambda: 0)
    assert asked(tables, [relation]) == [True]
    copy = tables.find(relation)
    assert copy is not None
    assert relation.table is not None
    assert copy.schema == relation.table.schema
    session = opening_session(settings)
    assert session.read_table(copy).to_pydict()["a"] == list(range(50_000))


async def test_a_young_file_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_tables, "_SETTLED_NANOSECONDS", 2_000_000_000)
    settings = settings_of(tmp_path)
    relation = opened(settings, aged(tmp_path / "t.csv", "a\n1\n", seconds=0))
    assert asked(KeptTables(settings, resident=lambda: 0), [relation], times=5) == [False]


async def test_copies_stay_within_their_room_and_give_way_when_they_are_not_in_use(tmp_path: Path) -> None:
    moment = Moment()
    settings = settings_of(tmp_path, kept=700_000)
    rows = "a\n" + "".join(f"{i}\n" for i in range(50_000))
    first, second = (opened(settings, aged(tmp_path / f"{name}.csv", rows)) for name in ("first", "second"))
    large = opened(settings, aged(tmp_path / "large.csv", "a\n" + "1\n" * 300_000))
    tables = KeptTables(settings, clock=lambda: moment.now, resident=lambda: 0)
    assert asked(tables, [first]) == [True]
    assert asked(tables, [second, large]) == [False, False]
    assert asked(tables, [first]) == [True]
    moment.now += kept_tables.REFUSED_SECONDS + 1
    assert asked(tables, [second]) == [True]
    assert tables.find(first) is None
    assert 0 < tables.size <= 700_000


async def test_copies_go_when_memory_runs_short_and_come_back_when_it_is_calm(tmp_path: Path) -> None:
    moment = Moment()
    settings = settings_of(tmp_path)
    relation = opened(settings, aged(tmp_path / "t.csv", "a\n1\n"))
    tables = KeptTables(settings, clock=lambda: moment.now, resident=lambda: moment.resident)
    assert asked(tables, [relation]) == [True]
    moment.resident = settings.memory_limit_bytes
    assert not tables.look()
    assert tables.size == 0
    moment.resident = 0
    assert asked(tables, [relation]) == [False]
    moment.now += kept_tables.CALM_SECONDS
    assert asked(tables, [relation]) == [True]


async def test_a_copy_that_nobody_uses_goes(tmp_path: Path) -> None:
    moment = Moment()
    settings = settings_of(tmp_path)
    relation = opened(settings, aged(tmp_path / "t.csv", "a\n1\n"))
    tables = KeptTables(settings, clock=lambda: moment.now, resident=lambda: 0)
    assert asked(tables, [relation]) == [True]
    moment.now += kept_tables.IDLE_SECONDS + 1
    assert not tables.look()


async def test_a_table_that_is_opened_again_is_read_again(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    path = aged(tmp_path / "t.csv", "a\n1\n")
    relation = opened(settings, path)
    tables = KeptTables(settings, resident=lambda: 0)
    assert asked(tables, [relation]) == [True]
    again = opened(settings, path)
    assert tables.find(again) is None


def planned(settings: RuntimeSettings, relation: Relation, copy: Table) -> Plan:
    frame = opening_session(settings).read_table(copy)
    return Plan(
        frame=frame,
        schema=frame.schema(),
        limit=None,
        shows_plan=False,
        is_repeatable=True,
        touched={relation.name: relation},
        asks_for_copies=True,
        copies=[copy],
        is_local=True,
    )


async def test_no_plan_holds_a_copy_that_has_been_given_up(tmp_path: Path) -> None:
    moment = Moment()
    settings = settings_of(tmp_path)
    relation = opened(settings, aged(tmp_path / "t.csv", "a\n1\n"))
    tables = KeptTables(settings, clock=lambda: moment.now, resident=lambda: moment.resident)
    plans, key = PlansKept(tables), ("select a from t", None, None)
    assert asked(tables, [relation]) == [True]
    copy = tables.find(relation)
    assert copy is not None
    plan = planned(settings, relation, copy)
    plans.keep(key, plan)
    assert plans.find(key) is plan
    assert plans.reads_what_is_there(plan)
    moment.resident = settings.memory_limit_bytes
    tables.look()
    assert plans.find(key) is None
    # As when it is given up between planning and keeping.
    plans.keep(key, plan)
    assert plans.find(key) is None
    assert not plans.reads_what_is_there(plan)


async def test_a_plan_over_a_copy_is_made_anew_when_the_file_changes(lakes: Lakes) -> None:
    path = aged(lakes.imports / "t.csv", "a\n1\n")
    lake = await lakes.start(keptTablesBytes=16 * MEBIBYTE)
    await lake.configure(dataset("t", path))
    await until_kept(lake, "t")
    for _ in range(4):
        assert await lake.rows("select a from t", useCache=False) == [{"a": 1}]
    path.write_text("a\n2\n")
    for _ in range(2):
        assert await lake.rows("select a from t", useCache=False) == [{"a": 2}]
