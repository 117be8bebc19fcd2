"""Statements begin in turns, and none keeps the others waiting for long."""

import asyncio

import pytest

from weir.lake_runtime import starting
from weir.lake_runtime.starting import Start

AMPLE = 2**40


async def test_a_place_is_given_back_with_the_first_rows_and_only_once() -> None:
    places = asyncio.Semaphore(1)
    async with Start(places, ample_bytes=AMPLE) as start:
        assert places.locked()
        start.end()
        start.end()
        assert not places.locked()
    assert places._value == 1


async def test_a_statement_without_rows_keeps_its_place_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(starting, "PATIENCE_SECONDS", 0.01)
    places = asyncio.Semaphore(1)
    async with Start(places, ample_bytes=AMPLE), asyncio.timeout(5), Start(places, ample_bytes=AMPLE):
        pass
    assert places._value == 1


async def test_a_statement_that_fails_gives_its_place_back() -> None:
    places = asyncio.Semaphore(1)
    with pytest.raises(ValueError, match="x"):
        async with Start(places, ample_bytes=AMPLE):
            raise ValueError("x")
    assert not places.locked()


async def test_one_who_leaves_while_it_waits_takes_no_place() -> None:
    places = asyncio.Semaphore(1)
    async with Start(places, ample_bytes=AMPLE) as held:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), Start(places, ample_bytes=AMPLE):
                raise AssertionError
        held.end()
    assert places._value == 1


async def test_patience_is_longer_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(starting, "PRESSED_SECONDS", 60)
    places = asyncio.Semaphore(1)
    async with Start(places, ample_bytes=0):
        await asyncio.sleep(0.1)
        assert places.locked()
