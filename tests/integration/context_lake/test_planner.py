"""The planner process: what it plans over columns alone, and that its death costs one answer."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pytest

from weir.context_lake import planning
from weir.context_lake.document import View
from weir.context_lake.planning import COSTLY, Planned, Planner, PlannerUnavailable

SCHEMAS = {
    "Sales": pa.schema([("id", pa.int64()), ("at", pa.timestamp("us", "UTC"))]).serialize().to_pybytes()
}
GOOD = [View(name="v", sql="select id from sales"), View(name="w", sql="select sum(id) from v")]


@pytest.fixture
async def planner() -> AsyncIterator[Planner]:
    planner = Planner()
    yield planner
    await planner.close()


def pid_of(planner: Planner) -> int:
    process = planner._process
    assert process is not None
    return process.pid


async def test_views_are_planned_in_their_order_and_know_their_columns(planner: Planner) -> None:
    answers = await planner.plan(SCHEMAS, GOOD)
    assert answers == [Planned(columns=["id"]), Planned(columns=["sum(v.id)"])]
    pid = pid_of(planner)
    [faulty, over] = await planner.plan(
        {}, [View(name="v", sql="select id from sales"), View(name="w", sql="select * from v")]
    )
    assert faulty is not None
    assert "table 'sales' not found" in str(faulty.error)
    assert over is not None
    assert "'v' is not usable" in str(over.error)
    assert pid_of(planner) == pid


async def test_a_planner_that_has_died_is_replaced(planner: Planner) -> None:
    await planner.plan(SCHEMAS, GOOD)
    pid = pid_of(planner)
    os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(0.1)
    assert await planner.plan(SCHEMAS, GOOD[:1]) == [Planned(columns=["id"])]
    assert pid_of(planner) != pid


async def test_a_view_that_takes_too_long_ends_its_planner_and_no_other_answer(
    planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    await planner.plan(SCHEMAS, GOOD)
    pid = pid_of(planner)
    monkeypatch.setattr(planning, "VIEW_SECONDS", 0)
    assert await planner.plan(SCHEMAS, GOOD) == [COSTLY, None]
    assert not Path(f"/proc/{pid}").exists()
    monkeypatch.undo()
    assert await planner.plan(SCHEMAS, GOOD[:1]) == [Planned(columns=["id"])]


async def test_whoever_leaves_in_the_middle_spoils_nobodys_answer(planner: Planner) -> None:
    await planner.plan(SCHEMAS, GOOD)
    leaving = asyncio.create_task(planner.plan(SCHEMAS, GOOD * 50))
    await asyncio.sleep(0.005)
    leaving.cancel()
    answers = await asyncio.gather(*(planner.plan(SCHEMAS, GOOD[:1]) for _ in range(5)))
    assert answers == [[Planned(columns=["id"])]] * 5


async def test_an_idle_planner_ends(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "IDLE_SECONDS", 0.05)
    await planner.plan(SCHEMAS, GOOD)
    pid = pid_of(planner)
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            break
        await asyncio.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


async def test_a_planner_that_cannot_be_started_is_told_as_that(
    planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "MODULE", "weir.lake_runtime.no_such_module")
    with pytest.raises(PlannerUnavailable):
        await planner.plan(SCHEMAS, GOOD)


async def test_the_planner_knows_nothing_of_the_desks_environment(
    planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEIR_DATABASE_URL", "postgres://canary")
    await planner.plan(SCHEMAS, GOOD)
    assert b"canary" not in Path(f"/proc/{pid_of(planner)}/environ").read_bytes()
