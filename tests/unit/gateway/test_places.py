"""Places: who gets one, who waits, and who is told at once to come back."""

import asyncio

import pytest

from weir.gateway import places as module
from weir.gateway.places import SHED, Overloaded, Place, Places, TooManyAtOnce


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BURST_SECONDS", 0.2)


async def waiting(places: Places, tenant: str) -> asyncio.Task[Place]:
    task = asyncio.create_task(places.take(tenant))
    await asyncio.sleep(0)
    return task


def shed(reason: str) -> float:
    return SHED.labels(reason)._value.get()


async def test_a_tenant_has_at_most_half_of_the_places() -> None:
    places = Places(4)
    held = [await places.take("a"), await places.take("a")]
    third = await waiting(places, "a")
    others = [await places.take("b"), await places.take("b")]
    assert not third.done()
    held[0].leave()
    (await third).leave()
    for place in (*held, *others):
        place.leave()


async def test_a_burst_is_served_in_its_order() -> None:
    places = Places(2)
    first = await places.take("a")
    turns = [await waiting(places, "a") for _ in range(3)]
    served: list[int] = []
    for number, turn in enumerate(turns):
        turn.add_done_callback(lambda _, number=number: served.append(number))
    first.leave()
    for turn in turns:
        (await turn).leave()
        await asyncio.sleep(0)
    assert served == [0, 1, 2]


async def test_queues_are_served_in_turn() -> None:
    places = Places(2)
    mine, his = await places.take("a"), await places.take("b")
    noisy = [await waiting(places, "a") for _ in range(5)]
    normal = await waiting(places, "c")
    mine.leave()
    his.leave()
    # After one of the five, and not after all of them.
    place = await normal
    assert sum(turn.done() for turn in noisy) == 1
    place.leave()
    for turn in noisy:
        (await turn).leave()


async def test_a_full_queue_refuses_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUED", 1)
    places, before = Places(2), shed("full")
    held = await places.take("a")
    turn = await waiting(places, "a")
    with pytest.raises(TooManyAtOnce) as refused:
        await places.take("a")
    assert refused.value.headers["Retry-After"]
    assert shed("full") == before + 1
    held.leave()
    (await turn).leave()


async def test_who_waits_too_long_is_refused_and_leaves_nothing_behind() -> None:
    places, before = Places(2), shed("late")
    held = [await places.take("a"), await places.take("b")]
    with pytest.raises(Overloaded):
        await places.take("c")
    assert shed("late") == before + 1
    for place in held:
        place.leave()
    again = [await places.take("a"), await places.take("b")]
    for place in again:
        place.leave()


async def test_nobody_waits_long_in_a_queue_that_stands() -> None:
    places, loop = Places(2), asyncio.get_running_loop()
    held = await places.take("a")
    with pytest.raises(TooManyAtOnce):
        await places.take("a")
    began = loop.time()
    with pytest.raises(TooManyAtOnce):
        await places.take("a")
    # Less than what a burst is granted, by far.
    assert loop.time() - began < 0.1
    held.leave()


async def test_a_queue_that_was_empty_takes_up_a_burst_again() -> None:
    places = Places(2)
    held = await places.take("a")
    with pytest.raises(TooManyAtOnce):
        await places.take("a")
    held.leave()
    held = await places.take("a")
    turn = await waiting(places, "a")
    await asyncio.sleep(0.05)
    held.leave()
    (await turn).leave()


async def test_a_place_that_is_left_twice_is_one_place() -> None:
    places = Places(2)
    place = await places.take("a")
    place.leave()
    place.leave()
    held = await places.take("a")
    turn = await waiting(places, "a")
    assert not turn.done()
    held.leave()
    (await turn).leave()


async def test_who_is_ended_while_waiting_takes_no_place_with_him() -> None:
    places = Places(2)
    held = await places.take("a")
    early, late = await waiting(places, "a"), await waiting(places, "a")
    early.cancel()
    held.leave()
    place = await late
    with pytest.raises(asyncio.CancelledError):
        await early
    # Given a place and ended before he knows of it.
    unlucky = await waiting(places, "a")
    place.leave()
    unlucky.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unlucky
    (await places.take("a")).leave()
