"""The page between a runtime and its host, and the reckoning after a cancelled statement."""

import asyncio
import threading
import time

import pytest

from weir.lake_runtime import reckoning
from weir.lake_runtime.deadline import DeadlinePage, Deadlines
from weir.lake_runtime.query import Run


def test_the_page_shows_the_earliest_deadline_and_zero_when_nothing_runs() -> None:
    page = DeadlinePage()
    deadlines = Deadlines(page)
    assert page.read() == 0.0
    with deadlines.hold(20.0):
        with deadlines.hold(10.0), deadlines.hold(30.0):
            assert (page.read(), deadlines.active) == (10.0, 3)
        assert page.read() == 20.0
    assert (page.read(), deadlines.active) == (0.0, 0)


def test_a_condemned_process_shows_a_deadline_long_past_whatever_else_runs() -> None:
    page = DeadlinePage()
    deadlines = Deadlines(page)
    with deadlines.hold(time.monotonic() + 60):
        deadlines.condemn()
    assert 0.0 < page.read() < 1.0


@pytest.fixture
def deadlines() -> Deadlines:
    return Deadlines(DeadlinePage())


async def test_a_process_that_comes_to_rest_is_spared(deadlines: Deadlines) -> None:
    await asyncio.sleep(0.05)
    await reckoning.reckon(Run(), deadlines)
    assert not deadlines.condemned


async def test_a_process_that_is_kept_off_the_cores_is_not_at_rest(
    deadlines: Deadlines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "process_time", lambda: 0.0)
    goes_on = threading.Event()
    worker = threading.Thread(target=_spin, args=(goes_on,))
    worker.start()
    try:
        await reckoning.reckon(Run(), deadlines)
    finally:
        goes_on.set()
        worker.join()
    assert deadlines.condemned


async def test_planning_that_goes_on_after_its_deadline_condemns_the_process(deadlines: Deadlines) -> None:
    run = Run()
    run.planning = asyncio.get_running_loop().create_future()
    started = time.monotonic()
    await reckoning.reckon(run, deadlines)
    assert deadlines.condemned
    assert time.monotonic() - started < reckoning.PATIENCE_SECONDS + 0.5


def _spin(end: threading.Event) -> None:
    while not end.is_set():
        pass


async def test_other_statements_are_not_cut_short_for_one_that_may_still_end(
    deadlines: Deadlines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reckoning, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(reckoning, "_CROWDED_SECONDS", 0.5)
    run = Run()
    run.planning = asyncio.get_running_loop().create_future()
    with deadlines.hold(time.monotonic() + 60):
        watch = asyncio.create_task(reckoning.reckon(run, deadlines))
        await asyncio.sleep(0.3)
        assert not deadlines.condemned
        await watch
    assert deadlines.condemned
