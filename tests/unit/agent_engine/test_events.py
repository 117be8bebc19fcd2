"""The event log of a turn: every reader gets every event once, silence is broken, memory is bounded."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from weir.agent_engine import events
from weir.agent_engine.events import HEARTBEAT, OPENING, PAGE, EventLog, TooMuchSaid, frame_of
from weir.agent_engine.running import RunningTurns


async def read(stream: AsyncIterator[bytes]) -> list[bytes]:
    return [content async for content in stream]


async def test_every_reader_gets_every_event_from_where_it_began() -> None:
    log = EventLog(3)
    early = asyncio.create_task(read(log.follow()))
    await asyncio.sleep(0)
    log.append("message_delta", {"content": "a"})
    await asyncio.sleep(0.01)
    log.append("message_delta", {"content": "b"})
    late = asyncio.create_task(read(log.follow(1)))
    log.append("done", {})
    log.end()
    first = b'id: 3-1\nevent: message_delta\ndata: {"content":"a"}\n\n'
    rest = b'id: 3-2\nevent: message_delta\ndata: {"content":"b"}\n\nid: 3-3\nevent: done\ndata: {}\n\n'
    assert await early == [OPENING, first, rest]
    assert await late == [OPENING, rest]
    assert await read(log.follow(99)) == [OPENING]


async def test_events_that_come_together_leave_together() -> None:
    log = EventLog(1)
    reading = asyncio.create_task(read(log.follow()))
    await asyncio.sleep(0)
    for _ in range(50):
        log.append("message_delta", {"content": "x"})
    log.end()
    assert len(await reading) == 2


async def test_silence_is_broken_by_heartbeats_and_only_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.05)
    log = EventLog(1)
    reading = asyncio.create_task(read(log.follow()))
    for _ in range(5):
        await asyncio.sleep(0.02)
        log.append("thinking", {})
    await asyncio.sleep(0.18)
    log.end()
    seen = await reading
    assert HEARTBEAT not in seen[:-3]
    assert 2 <= seen.count(HEARTBEAT) <= 4


async def test_a_reader_who_leaves_is_forgotten() -> None:
    log = EventLog(1)
    reading = asyncio.create_task(read(log.follow()))
    await asyncio.sleep(0)
    assert len(log._readers) == 1
    reading.cancel()
    await asyncio.wait([reading])
    assert not log._readers


@pytest.mark.parametrize(
    ("event_id", "position"),
    [("2-3", 3), ("2-99", 5), ("1-3", 0), ("3-3", 0), ("", 0), ("2-", 0), ("2--1", 0), ("2-²", 0), ("x", 0)],
)
async def test_a_reader_comes_back_to_its_place_in_its_turn(event_id: str, position: int) -> None:
    log = EventLog(2)
    for _ in range(5):
        log.append("thinking", {})
    assert log.position_after(event_id) == position


async def test_a_turn_that_says_too_much_is_stopped_but_its_end_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "MAX_BYTES", 100)
    log = EventLog(1)
    with pytest.raises(TooMuchSaid):
        log.append("message_delta", {"content": "x" * 100})
    log.append("error", {"message": "too much"})
    log.append("done", {})
    assert len(log) == 2


async def test_events_of_ended_turns_are_kept_for_a_while_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("weir.agent_engine.running.KEPT_LOGS", 2)
    running = RunningTurns()
    logs = [EventLog(1) for _ in range(3)]
    for place, log in enumerate(logs):
        await running.start(("t", str(place)), log, asyncio.sleep(0))
    await asyncio.sleep(0)
    assert [running.log_of(("t", str(place))) for place in range(3)] == [None, logs[1], logs[2]]


async def test_a_turn_that_has_told_nothing_yet_is_found() -> None:
    running, log = RunningTurns(), EventLog(1)
    task = running.start(("t", "s"), log, asyncio.sleep(60))
    assert running.log_of(("t", "s")) is log
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("count", [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 5])
def test_whatever_a_reader_has_seen_it_is_told_the_rest(count: int) -> None:
    log = EventLog(1)
    for number in range(count):
        log.append("message_delta", {"content": f"{number}\n\nid: 1-7\n\n\u2028"})
    frames = [
        frame_of(1, n + 1, "message_delta", {"content": f"{n}\n\nid: 1-7\n\n\u2028"}) for n in range(count)
    ]
    assert len(log) == count
    for seen in range(count + 1):
        assert log.since(seen) == b"".join(frames[seen:])
        assert log.each_since(seen) == frames[seen:]
