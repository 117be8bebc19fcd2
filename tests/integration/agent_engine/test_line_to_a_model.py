"""The line to a model's server is slow, cut, reset or silent: the turn says so or goes on, and the next one is well."""

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from tests.fakes.fault_proxy import FaultProxy, Line, fault_proxy
from tests.fakes.model_server import FakeModels, say
from tests.integration.agent_engine.conftest import Assistant, Caller, World
from tests.promises import Promise

WORDS = ("one ", "two ", "three")
TURN_SECONDS = 2
# A turn's own time, and what it takes to say so.
MOST_SECONDS = TURN_SECONDS + 3


@pytest.fixture
async def line(fake_models: FakeModels) -> AsyncIterator[FaultProxy]:
    parts = urlsplit(fake_models.base_url)
    async with fault_proxy(parts.hostname or "", parts.port or 0) as proxy:
        yield proxy


@pytest.fixture
async def behind(world: World, admin: Caller, line: FaultProxy) -> Assistant:
    """An assistant whose model is reached by way of the line, and who pauses between words."""
    made = await world.assistant(admin, say(*WORDS, pause=0.15), max_turn_duration=TURN_SECONDS)
    address = {"base_url": line.in_url(world.models.base_url)}
    await admin.ask(200, "PUT", f"/models/{made.model}", address)
    return made


async def is_well(admin: Caller, assistant: Assistant) -> bool:
    return (await admin.chat(assistant.schema)).text == "".join(WORDS)


@pytest.mark.promise("P20")
async def test_a_fault_of_the_line_to_a_model_ends_in_an_answer_or_an_error_and_leaves_nothing(
    world: World, admin: Caller, line: FaultProxy, behind: Assistant, promise: Promise
) -> None:
    beside = await world.assistant(admin, say("ok"))
    assert await is_well(admin, behind)
    told: dict[str, str] = {}
    slowest = 0.0

    async def turn_in(fault: Line, after: float) -> str:
        """How a turn ends whose line has the fault from so many seconds on, and while another model is well."""
        nonlocal slowest
        began = time.monotonic()
        turn = asyncio.create_task(admin.chat(behind.schema))
        await asyncio.sleep(after)
        await line.set(fault)
        assert (await admin.chat(beside.schema)).text == "ok"
        ended = await turn
        slowest = max(slowest, time.monotonic() - began)
        await line.set("good")
        assert ended.events[-2:] == ["error", "done"], ended.events
        assert await is_well(admin, behind)
        return ended.one("error")["code"]

    faults: tuple[Line, ...] = ("cut", "reset", "black_hole")
    for fault in faults:
        told[f"{fault} in the midst"] = await turn_in(fault, 0.3)
        await line.set(fault)
        told[fault] = await turn_in(fault, 0)
    assert told == {
        "cut in the midst": "model_unavailable",
        "cut": "model_unavailable",
        "reset in the midst": "model_unavailable",
        "reset": "model_unavailable",
        "black_hole in the midst": "timeout",
        "black_hole": "timeout",
    }
    assert slowest < MOST_SECONDS
    promise.held(
        f"the line to a model cut, reset and silent, before a turn and in its midst: {told}, each within {slowest:.1f} s "
        f"(a turn's own time is {TURN_SECONDS} s), another model well meanwhile, the next turn well each time"
    )


async def test_a_slow_line_to_a_model_is_waited_for(
    admin: Caller, line: FaultProxy, behind: Assistant
) -> None:
    await line.delay(0.1)
    assert await is_well(admin, behind)


@pytest.mark.parametrize("fault", ["cut", "reset"])
async def test_a_line_to_a_model_that_comes_back_soon_is_tried_again(
    admin: Caller, line: FaultProxy, behind: Assistant, fault: Line
) -> None:
    await line.set(fault)
    turn = asyncio.create_task(admin.chat(behind.schema))
    await asyncio.sleep(0.3)
    await line.set("good")
    assert (await turn).text == "".join(WORDS)
    assert len(behind.brain.requests) == 1
