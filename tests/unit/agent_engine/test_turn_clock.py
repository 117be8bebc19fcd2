"""A turn's time: it runs, it stands still while a person is waited for, and no sub-agent has more of it."""

import asyncio

import pytest

from weir.agent_engine.turn_clock import TurnClock


async def test_the_time_that_is_up_ends_the_turn() -> None:
    with pytest.raises(TimeoutError):
        async with TurnClock(0.02).running():
            await asyncio.sleep(5)


async def test_a_pause_takes_no_time() -> None:
    clock = TurnClock(0.1)
    async with clock.running():
        with clock.paused():
            left = clock.left
            await asyncio.sleep(0.15)
            assert clock.left == left
    with pytest.raises(TimeoutError):
        async with clock.running():
            with clock.paused():
                await asyncio.sleep(0.05)
            await asyncio.sleep(5)


async def test_of_several_pauses_the_last_lets_the_clock_go_on() -> None:
    clock = TurnClock(0.05)
    async with clock.running():
        with clock.paused():
            with clock.paused():
                pass
            await asyncio.sleep(0.1)


async def test_a_pause_below_stops_the_clock_above() -> None:
    above = TurnClock(0.05)
    below = TurnClock(5, above)
    async with above.running(), below.running():
        assert below.left <= 0.05
        with below.paused():
            await asyncio.sleep(0.1)


async def test_the_time_above_ends_what_is_below() -> None:
    above = TurnClock(0.02)
    below = TurnClock(5, above)
    with pytest.raises(TimeoutError):
        async with above.running():
            try:
                async with below.running():
                    await asyncio.sleep(5)
            except TimeoutError:
                pytest.fail("the clock below took the time-out for its own")


async def test_a_pause_that_is_cancelled_leaves_the_clock_as_it_was() -> None:
    clock = TurnClock(5)
    async with clock.running():

        async def wait() -> None:
            with clock.paused():
                await asyncio.sleep(5)

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert 4 < clock.left <= 5
