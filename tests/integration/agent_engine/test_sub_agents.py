"""Sub-agents: their answer is a result, their failure is one too, and they have no more than who called them."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.lake_server import FakeLake, serve_fake_lake
from tests.fakes.model_server import Brain, Call, Reply, say, use
from tests.integration.agent_engine.conftest import Caller, World
from tests.integration.agent_engine.gates import TABLE, answer, live

from weir_shared.auth.keys import TICKET_KEY, load_or_create_key_pair
from weir_shared.auth.tickets import TicketInspector


async def sub_agent(
    world: World, caller: Caller, *replies: Reply, name: str = "", **agent: Any
) -> tuple[str, Brain]:
    """An agent that others may spawn: its name, and the brain that answers for it."""
    brain = world.models.brain(*replies)
    name = name or f"s-{uuid.uuid4().hex[:10]}"
    model = {
        "name": name[:60],
        "type": "openai_compatible",
        "model_name": brain.name,
        "base_url": world.models.base_url,
        "api_key": "sk-test",
    }
    await caller.ask(201, "POST", "/models", model)
    await caller.ask(201, "POST", "/agents", {"name": name, "model": name[:60], "system": "Work."} | agent)
    return name, brain


def spawn(name: str, description: str = "Find laptops") -> Reply:
    return use(f"spawn_{name}", {"description": description})


async def test_the_answer_of_a_sub_agent_is_the_result_and_nothing_else_of_it_is_told(
    world: World, admin: Caller
) -> None:
    child, brain = await sub_agent(
        world, admin, use("no_such", {}, after=("Looking. ",)), say("849 ", "euros", thinking=("Hm.",))
    )
    assistant = await world.assistant(admin, spawn(child), say("It costs 849."), can_spawn=[child])
    turn = await admin.chat(assistant.schema)
    assert turn.events == ["tool_call", "tool_result", "message_delta", "message", "done"]
    assert turn.one("tool_result")["output"] == f"Agent '{child}' completed:\n\n849 euros"
    assert turn.one("message")["content"] == "It costs 849."
    asked = brain.requests[0]["messages"]
    assert [message["role"] for message in asked] == ["system", "user"]
    assert asked[1]["content"] == "Find laptops"
    assert asked[0]["content"].startswith("Work.")
    assert "another agent" in asked[0]["content"]
    # Both brains' tokens: two questions each.
    assert turn.one("done")["total_tokens"] == 4 * 12


async def test_what_a_sub_agent_did_stands_in_the_session_under_its_name_and_not_in_the_conversation(
    world: World, admin: Caller
) -> None:
    child, _ = await sub_agent(world, admin, use("no_such", {}), say("849"))
    assistant = await world.assistant(admin, spawn(child), say("Yes."), say("Again."), can_spawn=[child])
    turn = await admin.chat(assistant.schema)
    session = await admin.ask(200, "GET", f"/sessions/{turn.session_id}")
    assert [message["content"] for message in session["messages"]] == ["hi", "Yes."]
    assert session["message_count"] == 2
    call_id = turn.one("tool_call")["call_id"]
    assert [
        (event["event_type"], event["agent"], event["parent_call_id"]) for event in session["events"]
    ] == [
        ("user_message", assistant.agent, None),
        ("tool_call", assistant.agent, None),
        ("user_message", child, call_id),
        ("tool_call", child, call_id),
        ("tool_result", child, call_id),
        ("assistant_message", child, call_id),
        ("tool_result", assistant.agent, None),
        ("assistant_message", assistant.agent, None),
    ]
    await admin.chat(assistant.schema, "more", turn.session_id)
    roles = [message["role"] for message in assistant.brain.requests[-1]["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]


async def test_a_persistent_sub_agent_remembers_its_session_and_a_spawned_one_does_not(
    world: World, admin: Caller
) -> None:
    for lifecycle, remembered in (("persistent", ["Find one", "One.", "Find two"]), ("spawn", ["Find two"])):
        child, brain = await sub_agent(world, admin, say("One."), say("Two."), lifecycle=lifecycle)
        assistant = await world.assistant(
            admin, spawn(child, "Find one"), say("a"), spawn(child, "Find two"), say("b"), can_spawn=[child]
        )
        first = await admin.chat(assistant.schema)
        await admin.chat(assistant.schema, "more", first.session_id)
        assert [m["content"] for m in brain.requests[1]["messages"][1:]] == remembered, lifecycle
        # Another session is another conversation.
        brain.next({}, {})
        fresh = await world.assistant(admin, spawn(child, "Find three"), say("c"), can_spawn=[child])
        await admin.chat(fresh.schema)
        assert [m["content"] for m in brain.requests[-1]["messages"][1:]] == ["Find three"], lifecycle


async def test_a_persistent_sub_agent_remembers_within_one_turn(world: World, admin: Caller) -> None:
    child, brain = await sub_agent(world, admin, say("One."), say("Two."))
    assistant = await world.assistant(
        admin, spawn(child, "Find one"), spawn(child, "Find two"), say("b"), can_spawn=[child]
    )
    await admin.chat(assistant.schema)
    assert [m["content"] for m in brain.requests[1]["messages"][1:]] == ["Find one", "One.", "Find two"]


async def test_sub_agents_in_parallel_each_answer_their_call(world: World, admin: Caller) -> None:
    one, _ = await sub_agent(world, admin, say("I", " am one", pause=0.05), lifecycle="spawn")
    two, _ = await sub_agent(world, admin, use("no_such", {}), say("I am two"), lifecycle="spawn")
    both = Reply(
        calls=(Call(f"spawn_{one}", {"description": "a"}), Call(f"spawn_{two}", {"description": "b"}))
    )
    assistant = await world.assistant(admin, both, say("ok"), can_spawn=[one, two], tool_execution="parallel")
    turn = await admin.chat(assistant.schema)
    outputs = {frame.data["tool"]: frame.data["output"] for frame in turn.of("tool_result")}
    assert outputs[f"spawn_{one}"].endswith("I am one")
    assert outputs[f"spawn_{two}"].endswith("I am two")


async def test_an_agent_that_waits_for_the_answer_is_not_spawned_again(world: World, admin: Caller) -> None:
    b = f"b-{uuid.uuid4().hex[:10]}"
    assistant = await world.assistant(admin, spawn(b), say("Over."), can_spawn=[b])
    _, brain = await sub_agent(
        world, admin, spawn(assistant.agent), say("I cannot."), name=b, can_spawn=[assistant.agent]
    )
    turn = await admin.chat(assistant.schema)
    assert turn.one("tool_result")["output"].endswith("I cannot.")
    refusal = brain.requests[1]["messages"][-1]["content"]
    assert refusal.startswith("[ERROR]")
    assert f"{assistant.agent} -> {b} -> {assistant.agent}" in refusal
    assert len(assistant.brain.requests) == 2


async def test_a_chain_of_agents_has_an_end(world: World, admin: Caller) -> None:
    name, deepest = await sub_agent(world, admin, say("bottom"))
    refused: Brain | None = None
    for _ in range(4):
        name, brain = await sub_agent(world, admin, spawn(name), say("passed on"), can_spawn=[name])
        refused = refused or brain
    assistant = await world.assistant(admin, spawn(name), say("ok"), can_spawn=[name])
    await admin.chat(assistant.schema)
    assert not deepest.requests
    assert refused is not None
    told = refused.requests[1]["messages"][-1]["content"]
    assert told.startswith("[ERROR] <tool_output>\nAt most 5 agents")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(status=401), "failed"),
        (Reply(raw=b"data: nonsense\n\n"), "failed"),
        (say("a", drops=True), "failed"),
        (say(""), "failed"),
        (say("a", hangs=True), "took longer"),
    ],
)
async def test_a_sub_agent_that_fails_is_an_error_of_the_tool_and_the_turn_goes_on(
    world: World, admin: Caller, reply: Reply, reason: str
) -> None:
    child, _ = await sub_agent(world, admin, reply, max_turn_duration=1)
    assistant = await world.assistant(admin, spawn(child), say("Sorry."), can_spawn=[child])
    turn = await admin.chat(assistant.schema)
    result = turn.one("tool_result")
    assert result["has_error"] is True
    assert result["output"].startswith(f"[ERROR] Agent '{child}' failed")
    assert reason in result["output"]
    assert "sk-" not in result["output"]
    assert turn.one("message")["content"] == "Sorry."


async def test_a_sub_agent_has_no_more_time_than_the_turn(world: World, admin: Caller) -> None:
    child, brain = await sub_agent(world, admin, say("a", hangs=True), max_turn_duration=600)
    assistant = await world.assistant(admin, spawn(child), say("x"), can_spawn=[child], max_turn_duration=1)
    turn = await admin.chat(assistant.schema)
    assert "time was up" in turn.one("tool_result")["output"]
    assert turn.one("message")["content"] == "x"
    await asyncio.wait_for(brain.cut_off.wait(), 2)


async def test_stopping_the_turn_stops_its_sub_agent(world: World, admin: Caller) -> None:
    child, brain = await sub_agent(world, admin, say("a", hangs=True))
    assistant = await world.assistant(admin, spawn(child), say("x"), can_spawn=[child])
    session_id = str(uuid.uuid4())
    running = asyncio.create_task(admin.chat(assistant.schema, "one", session_id))
    while not brain.requests:
        await asyncio.sleep(0.01)
    await admin.ask(204, "DELETE", f"/sessions/{session_id}")
    assert (await running).one("error")["code"] == "stopped"
    await asyncio.wait_for(brain.cut_off.wait(), 2)


async def test_a_sub_agent_has_its_own_steps(world: World, admin: Caller) -> None:
    child, brain = await sub_agent(
        world, admin, use("lake_tables", {}), say("Enough."), tools=["lake_tables"], max_steps=2
    )
    assistant = await world.assistant(admin, spawn(child), say("ok"), can_spawn=[child])
    turn = await admin.chat(assistant.schema)
    assert ["tools" in request for request in brain.requests] == [True, False]
    assert turn.one("tool_result")["output"].endswith("Enough.")


async def test_only_agents_that_exist_are_offered(world: World, admin: Caller) -> None:
    child, _ = await sub_agent(world, admin, say("hi"), description="Knows laptops")
    assistant = await world.assistant(admin, say("ok"), can_spawn=["nobody", child])
    await admin.chat(assistant.schema)
    [offered] = assistant.brain.requests[0]["tools"]
    assert offered["function"]["name"] == f"spawn_{child}"
    assert "Knows laptops" in offered["function"]["description"]
    assert offered["function"]["parameters"]["required"] == ["description"]


async def test_a_relation_lets_its_source_spawn_its_target_in_its_own_schema_only(
    world: World, admin: Caller
) -> None:
    child, _ = await sub_agent(world, admin, say("done"))
    assistant = await world.assistant(admin, spawn(child), say("ok"))
    other = await world.assistant(admin, say("ok"))
    body = {"source": assistant.agent, "target": child}
    await admin.ask(201, "POST", f"/schemas/{assistant.schema}/agent-relations", body)
    turn = await admin.chat(assistant.schema)
    assert turn.one("tool_result")["output"].endswith("done")
    await admin.ask(200, "PUT", f"/schemas/{other.schema}", {"entry_agent_id": assistant.agent})
    await admin.chat(other.schema)
    assert "tools" not in assistant.brain.requests[-1]


async def test_a_long_name_makes_a_tool_that_providers_take_and_gates_know_it_by_its_whole_name(
    world: World, admin: Caller
) -> None:
    name = f"s-{uuid.uuid4().hex}" + "x" * 60
    await sub_agent(world, admin, say("done"), name=name)
    asking = await world.assistant(admin, say("ok"), can_spawn=[name], confirm_before=[f"spawn_{name}"])
    await admin.chat(asking.schema)
    [offered] = asking.brain.requests[0]["tools"]
    short = offered["function"]["name"]
    assert len(short) == 64
    assert short in asking.brain.requests[0]["messages"][0]["content"]


async def test_a_task_without_words_is_told_as_an_error(world: World, admin: Caller) -> None:
    child, brain = await sub_agent(world, admin, say("hi"))
    bad = Reply(
        calls=(
            Call(f"spawn_{child}", {}),
            Call(f"spawn_{child}", {"description": 5}),
            Call(f"spawn_{child}", {"action": "stop"}),
        )
    )
    assistant = await world.assistant(admin, bad, say("ok"), can_spawn=[child])
    turn = await admin.chat(assistant.schema)
    assert all(frame.data["output"].startswith("[ERROR]") for frame in turn.of("tool_result"))
    assert not brain.requests


async def test_a_tool_of_a_sub_agent_is_gated_too_and_by_the_gates_above_it(
    world: World, admin: Caller
) -> None:
    for own, above in ((["show_structured_output"], []), ([], ["show_structured_output"])):
        child, brain = await sub_agent(
            world,
            admin,
            use("show_structured_output", TABLE),
            say("Shown or not."),
            tools=["show_structured_output"],
            confirm_before=own,
        )
        assistant = await world.assistant(
            admin, spawn(child), say("ok"), can_spawn=[child], confirm_before=above, max_turn_duration=1
        )
        async with live(admin, assistant.schema) as turn:
            [asked] = await turn.asked()
            assert asked["agent"] == child
            assert asked["tool"] == "show_structured_output"
            # Neither the sub-agent's time nor the turn's.
            await asyncio.sleep(1.2)
            await answer(admin, 200, turn.session_id, asked["call_id"], "no")
            ended = await turn.end()
        assert asked["parent_call_id"] == ended.one("tool_call")["call_id"]
        assert ended.events.index("confirmation") < ended.events.index("tool_result")
        assert "declined" in brain.requests[1]["messages"][-1]["content"]
        assert ended.one("message")["content"] == "ok"


async def test_a_sub_agent_may_show_a_block_but_not_ask_the_user(world: World, admin: Caller) -> None:
    form = {"output_type": "form", "questions": [{"id": "q", "label": "Q?", "type": "text"}]}
    child, brain = await sub_agent(
        world,
        admin,
        Reply(calls=(Call("show_structured_output", TABLE), Call("show_structured_output", form))),
        say("Shown."),
        tools=["show_structured_output"],
    )
    assistant = await world.assistant(admin, spawn(child), say("ok"), can_spawn=[child])
    turn = await admin.chat(assistant.schema)
    assert turn.one("structured_output")["title"] == "Laptops"
    assert "cannot ask the user" in brain.requests[1]["messages"][-1]["content"]
    assert turn.one("message")["content"] == "ok"


@pytest.fixture
async def lake(tmp_path: Path) -> AsyncIterator[FakeLake]:
    async with serve_fake_lake() as fake:
        fake.inspector = TicketInspector(
            load_or_create_key_pair(tmp_path / "keys", TICKET_KEY).public, "context-lake"
        )
        yield fake


async def test_a_sub_agent_works_with_the_callers_own_authority(
    lake: FakeLake, tmp_path: Path, start_world, tenant_id: str
) -> None:
    async with start_world(tmp_path, lake_url=lake.url) as world:
        lake.answer = {"rows": [], "schema": [], "rowCount": 0, "truncated": False}
        admin = world.caller(tenant_id)
        somebody = world.caller(tenant_id, "chat", "lake:query", subject="somebody")
        child, _ = await sub_agent(
            world, admin, use("lake_query", {"query": "select 1"}), say("ok"), tools=["lake_query"]
        )
        assistant = await world.assistant(admin, spawn(child), say("ok"), can_spawn=[child])
        await somebody.chat(assistant.schema)
        assert lake.callers == [somebody.principal]


async def test_one_tool_for_all_agents_delegates_to_the_one_it_names(world: World, admin: Caller) -> None:
    first, _ = await sub_agent(world, admin, say("from the first"))
    second, brain = await sub_agent(world, admin, say("from the second"))
    asked = use("spawn_agent", {"agent_name": second, "input": "Find laptops"})
    assistant = await world.assistant(
        admin, asked, say("ok"), can_spawn=[first, second], tools=["spawn_agent"]
    )
    turn = await admin.chat(assistant.schema)
    assert turn.one("tool_result")["output"] == f"Agent '{second}' completed:\n\nfrom the second"
    assert brain.requests[0]["messages"][1]["content"] == "Find laptops"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "agent_name"),
        ({"agent_name": "nobody", "input": "x"}, "agent_name"),
        ({"agent_name": ["a"], "input": "x"}, "agent_name"),
        ({"agent_name": "CHILD", "input": " "}, "input"),
        ({"agent_name": "CHILD"}, "input"),
    ],
)
async def test_a_delegation_to_nobody_or_of_nothing_is_told_as_an_error(
    world: World, admin: Caller, arguments: dict[str, object], told: str
) -> None:
    child, brain = await sub_agent(world, admin, say("never"))
    named = {key: child if value == "CHILD" else value for key, value in arguments.items()}
    assistant = await world.assistant(
        admin, use("spawn_agent", named), say("ok"), can_spawn=[child], tools=["spawn_agent"]
    )
    result = (await admin.chat(assistant.schema)).one("tool_result")
    assert result["has_error"] is True
    assert told in result["output"]
    assert not brain.requests


@pytest.mark.parametrize("gate", ["spawn_agent", "spawn_CHILD"])
async def test_the_tool_for_all_agents_is_gated_where_one_of_them_is(
    world: World, admin: Caller, gate: str
) -> None:
    child, brain = await sub_agent(world, admin, say("done"))
    asked = use("spawn_agent", {"agent_name": child, "input": "x"})
    assistant = await world.assistant(
        admin,
        asked,
        say("ok"),
        can_spawn=[child],
        tools=["spawn_agent"],
        confirm_before=[gate.replace("CHILD", child)],
    )
    body = {"message": "hi"}
    async with admin.streaming(f"/schemas/{assistant.schema}/chat", body) as frames:
        async for frame in frames:
            if frame.event == "confirmation":
                assert not brain.requests
                answer = {"call_id": frame.data["call_id"], "answers": ["no"]}
                await admin.ask(200, "POST", f"/sessions/{frame.data['session_id']}/respond", answer)
            if frame.event == "tool_result":
                assert "declined" in frame.data["output"]
    assert not brain.requests
