"""How long a stream rests between two looks: not at all in a process at ease, ever longer in a busy one."""

import asyncio

from weir.agent_engine.models.breath import LEAST_SECONDS, MOST_SECONDS, Breath


async def look(breath: Breath, *, late: float, times: int) -> None:
    """As the timer does, so much later than it was to."""
    for _ in range(times):
        breath._due = asyncio.get_running_loop().time() - late
        breath._look()


async def test_a_process_at_ease_lets_no_stream_rest() -> None:
    breath = Breath()
    with breath.stream():
        await look(breath, late=0.0002, times=20)
        assert breath.seconds == 0.0


async def test_a_busy_process_lets_streams_rest_and_never_for_long() -> None:
    breath = Breath()
    with breath.stream():
        await look(breath, late=0.003, times=20)
        assert LEAST_SECONDS <= breath.seconds < MOST_SECONDS
        await look(breath, late=0.5, times=20)
        assert breath.seconds == MOST_SECONDS


async def test_it_measures_only_while_there_are_streams() -> None:
    breath = Breath()
    with breath.stream():
        with breath.stream():
            assert breath._timer is not None
        assert breath._timer is not None
    assert breath._timer is None
