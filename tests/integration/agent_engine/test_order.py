"""The rules of a stream's order, over turns of every kind."""

import re
from typing import Any

import pytest
from tests.fakes.model_server import Reply, say, use
from tests.integration.agent_engine.conftest import Caller, Streamed, World

TURNS: dict[str, tuple[Reply, ...]] = {
    "plain": (say("Hel", "lo"),),
    "tool": (use("x", {"n": 1}, after=("I ", "look. ")), say("Done.")),
    "parallel": (Reply(calls=(*use("x").calls, *use("y").calls)), say("Both.")),
    "thinking": (Reply(thinking=("Hm", "m"), text=("So.",)),),
    "refused": (Reply(status=401),),
    "dropped": (say("Hal", drops=True),),
    "garbage": (Reply(raw=b"data: {]\n\n"),),
    "silent after tools": (use("x"), Reply()),
    "circle": (use("x", {"n": 1}),),
}


def check_order(turn: Streamed) -> None:
    """Every rule that holds for every stream."""
    assert turn.frames[0].comment == ": ok"
    assert turn.frames[-1].event == "done"
    assert turn.events.count("done") == 1
    assert turn.events.count("error") + turn.events.count("message") == 1
    assert turn.events[-2] in ("error", "message")
    called: list[str] = []
    for frame in turn.frames:
        if frame.event == "tool_call":
            called.append(frame.data["call_id"])
        if frame.event == "tool_result":
            called.remove(frame.data["call_id"])
    assert called == []
    for message in turn.of("message"):
        assert message.data["content"] == turn.text
    numbers = [frame.id for frame in turn.frames if frame.event]
    assert numbers == [f"1-{number}" for number in range(1, len(numbers) + 1)]


@pytest.mark.parametrize("kind", TURNS)
@pytest.mark.parametrize("execution", ["sequential", "parallel"])
async def test_a_turn_of_any_kind_keeps_the_order(
    world: World, admin: Caller, kind: str, execution: str
) -> None:
    assistant = await world.assistant(admin, *TURNS[kind], tool_execution=execution)
    turn = await admin.chat(assistant.schema)
    check_order(turn)
    path = f"/sessions/{turn.session_id}/events"
    async with admin.streaming(path, method="GET") as frames:
        assert Streamed([frame async for frame in frames]) == turn


async def test_a_turn_that_runs_in_circles_is_told_so_and_then_answers_without_tools(
    world: World, admin: Caller
) -> None:
    lake = {"tools": ["lake_query"], "max_steps": 0}
    assistant = await world.assistant(admin, use("lake_query", {"n": 1}), **lake)
    turn = await admin.chat(assistant.schema)
    asked = assistant.brain.requests
    assert len(turn.of("tool_call")) == 4
    assert "3 times with the same arguments" in system_of(asked[3])
    assert asked[3].get("tools")
    assert not asked[4].get("tools")
    assert len(asked) == 5
    assert turn.events[-2:] == ["message", "done"]


async def test_a_circle_of_several_calls_is_noticed_too(world: World, admin: Caller) -> None:
    tool = "show_structured_output"
    blocks = [{"output_type": "info", "title": str(n % 2)} for n in range(30)]
    assistant = await world.assistant(
        admin, *(use(tool, block) for block in blocks), tools=[tool], max_steps=0
    )
    turn = await admin.chat(assistant.schema)
    assert len(turn.of("tool_call")) == 10
    assert "5 times with the same arguments" in system_of(assistant.brain.requests[9])
    assert not assistant.brain.requests[10].get("tools")
    assert turn.events[-2:] == ["message", "done"]


async def test_the_last_steps_are_counted_down(world: World, admin: Caller) -> None:
    assistant = await world.assistant(
        admin, *(use("x", {"n": n}) for n in range(2)), say("ok"), tools=["lake_query"]
    )
    await admin.ask(200, "PUT", f"/agents/{assistant.agent}", {"max_steps": 4})
    await admin.chat(assistant.schema)
    left = [
        re.search(r"You have (\d) more steps", system_of(request)) for request in assistant.brain.requests
    ]
    assert [found and found[1] for found in left] == ["3", "2", "1"]


async def test_a_long_session_is_shortened_and_the_model_is_told(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("word " * 400))
    await admin.ask(200, "PUT", f"/agents/{assistant.agent}", {"max_context_size": 1000})
    session_id = (await admin.chat(assistant.schema, "question 0")).session_id
    for number in (1, 2, 3):
        await admin.chat(assistant.schema, f"question {number}", session_id)
    sent = assistant.brain.requests[-1]["messages"]
    asked = [message["content"] for message in sent if message["role"] == "user"]
    assert asked == [f"question {number}" for number in range(4)]
    assert len([message for message in sent if message["role"] == "assistant"]) < 3
    assert "earlier steps were left out" in system_of(assistant.brain.requests[-1])


async def test_a_turn_knows_what_the_one_before_it_learnt_of_the_models_tokens(
    world: World, admin: Caller
) -> None:
    counted = b'data: {"choices":[{"delta":{"content":"ok"},"finish_reason":"stop"}]}\n\n'
    counted += (
        b'data: {"choices":[],"usage":{"prompt_tokens":1300,"completion_tokens":1}}\n\ndata: [DONE]\n\n'
    )
    assistant = await world.assistant(admin, Reply(raw=counted), say("ok"), max_context_size=1000)
    first = await admin.chat(assistant.schema, "word " * 400)
    await admin.chat(assistant.schema, "and now?", first.session_id)
    sent = assistant.brain.requests[1]["messages"]
    assert [message["content"] for message in sent[1:]] == ["ok", "and now?"]
    assert "earlier steps were left out" in system_of(assistant.brain.requests[1])


def system_of(request: dict[str, Any]) -> str:
    return request["messages"][0]["content"]
