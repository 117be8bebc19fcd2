"""What older agent engines got wrong in chats and sessions, where no other test here proves it.

The whole list, with the test that proves each item, is `docs/decisions/0027-known-defects.md`.
"""

import asyncio
import re
import uuid

import httpx
import structlog
from tests.fakes.model_server import Call, Reply, say, use
from tests.integration.agent_engine.conftest import Caller, Streamed, World
from tests.integration.agent_engine.test_sub_agents import spawn, sub_agent


async def metrics_of(world: World) -> str:
    async with httpx.AsyncClient(base_url=world.url) as scraper:
        return (await scraper.get("/metrics")).text


async def test_a_chats_body_names_nobody_else_as_its_user(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("Hello."))
    body = {"message": "hi", "user_sub": "somebody-else", "stream": False}
    answer = await admin.ask(200, "POST", f"/schemas/{assistant.schema}/chat", body)
    session = await admin.ask(200, "GET", f"/sessions/{answer['session_id']}")
    assert session["user_sub"] == admin.principal.subject


async def test_a_tenant_named_in_a_header_is_not_the_callers(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("Hello."))
    headers = {"X-Tenant-ID": "11111111-1111-4111-8111-111111111111"}
    listed = await admin.call("GET", "/agents", headers=headers)
    assert assistant.agent in [agent["name"] for agent in listed.json()]


async def test_a_long_result_is_streamed_and_kept_as_a_whole(world: World, admin: Caller) -> None:
    said = "849 euros. " * 2000
    child, _ = await sub_agent(world, admin, say(said))
    assistant = await world.assistant(admin, spawn(child), say("Yes."), can_spawn=[child])
    turn = await admin.chat(assistant.schema)
    assert turn.one("tool_result")["output"].endswith(said)
    kept = await admin.ask(200, "GET", f"/sessions/{turn.session_id}/messages")
    [result] = [message for message in kept if message["event_type"] == "tool_result"]
    assert result["payload"]["content"].endswith(said)


async def test_a_failed_result_is_known_as_one_in_the_history(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, use("no_such", {}), say("Sorry."))
    turn = await admin.chat(assistant.schema)
    kept = await admin.ask(200, "GET", f"/sessions/{turn.session_id}/messages")
    [result] = [m for m in kept if m["event_type"] == "tool_result"]
    assert result["payload"]["is_error"] is True


async def test_words_of_refusal_in_a_tools_result_end_nothing(world: World, admin: Caller) -> None:
    said = "permission denied; rate limit exceeded; context deadline exceeded; quota; unauthorized"
    child, _ = await sub_agent(world, admin, say(said))
    assistant = await world.assistant(admin, spawn(child), say("I see."), can_spawn=[child])
    turn = await admin.chat(assistant.schema)
    assert turn.one("tool_result")["has_error"] is False
    assert turn.one("message")["content"] == "I see."


async def test_every_tool_is_offered_with_properties_as_strict_providers_want(
    world: World, admin: Caller
) -> None:
    child, _ = await sub_agent(world, admin, say("849"))
    tools = ["lake_tables", "lake_query", "show_structured_output"]
    assistant = await world.assistant(admin, say("Hello."), tools=tools, can_spawn=[child])
    await admin.chat(assistant.schema)
    offered = [tool["function"] for tool in assistant.brain.requests[0]["tools"]]
    assert len(offered) >= 4
    for function in offered:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", function["name"])
        assert function["parameters"]["type"] == "object"
        assert isinstance(function["parameters"]["properties"], dict)


async def test_a_schema_without_an_entry_agent_is_refused_in_a_sentence_and_chats_once_it_has_one(
    world: World, admin: Caller
) -> None:
    assistant = await world.assistant(admin, say("Hello."), say("Hello again."))
    await admin.chat(assistant.schema)
    empty = await admin.ask(201, "POST", "/schemas", {"name": f"{assistant.schema}-e", "chat_enabled": True})
    refused = await admin.ask(400, "POST", f"/schemas/{empty['name']}/chat", {"message": "hi"})
    assert "entry agent" in refused["message"]
    await admin.ask(200, "PUT", f"/schemas/{empty['name']}", {"entry_agent_id": assistant.agent})
    assert (await admin.chat(empty["name"])).one("message")["content"] == "Hello again."


async def test_a_user_and_a_token_of_one_name_are_two_callers(
    world: World, admin: Caller, tenant_id: str
) -> None:
    assistant = await world.assistant(admin, say("hi"))
    ann = world.caller(tenant_id, "chat", subject="ann")
    session_id = (await ann.chat(assistant.schema)).session_id
    token = world.caller(tenant_id, "chat", subject="ann", actor="api_token")
    await token.ask(404, "GET", f"/sessions/{session_id}")
    await token.ask(
        404, "POST", f"/schemas/{assistant.schema}/chat", {"message": "x", "session_id": session_id}
    )


async def test_a_tenant_begins_without_a_model_and_chats_as_soon_as_it_has_one(
    world: World, admin: Caller
) -> None:
    body = {"name": f"early-{uuid.uuid4().hex[:8]}"}
    refusal = await admin.ask(400, "POST", "/agents", body)
    assert "create a chat model first" in refusal["message"]
    assistant = await world.assistant(admin, say("hi"))
    await admin.ask(201, "POST", "/agents", body)
    assert (await admin.chat(assistant.schema)).text == "hi"


async def test_the_end_of_one_turn_leaves_the_readers_of_the_next_alone(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("One."), say(*"Two.", pause=0.05))
    session_id = (await admin.chat(assistant.schema)).session_id
    running = asyncio.create_task(admin.chat(assistant.schema, "go on", session_id))
    await asyncio.sleep(0.1)

    async def follow() -> Streamed:
        async with admin.streaming(f"/sessions/{session_id}/events", method="GET") as frames:
            return Streamed([frame async for frame in frames])

    turns_read = await asyncio.gather(running, follow(), follow())
    assert [turn.text for turn in turns_read] == ["Two."] * 3
    assert [turn.events[-2:] for turn in turns_read] == [["message", "done"]] * 3


async def test_a_reader_that_stalls_loses_nothing_and_holds_nobody_up(world: World, admin: Caller) -> None:
    # More than the sockets between them hold.
    words = tuple(f"word-{n:04} " * 2000 for n in range(195))
    assistant = await world.assistant(admin, say(*words))
    body = {"message": "hi"}
    async with admin.streaming(f"/schemas/{assistant.schema}/chat", body) as stalled:
        await anext(stalled)
        # Everybody else is served while nobody takes what is sent here.
        other = await asyncio.wait_for(admin.chat(assistant.schema), 10)
        assert other.text == "".join(words)
        late = Streamed([frame async for frame in stalled])
    assert late.text == "".join(words)


async def test_two_first_messages_of_one_session_make_one_session_and_one_turn(
    world: World, admin: Caller
) -> None:
    assistant = await world.assistant(admin, say("hi", pause=0.2))
    session_id = str(uuid.uuid4())
    body = {"message": "hi", "session_id": session_id, "stream": False}
    with structlog.testing.capture_logs() as logs:
        answers = await asyncio.gather(
            *(admin.call("POST", f"/schemas/{assistant.schema}/chat", body) for _ in range(6))
        )
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5
    assert not [entry for entry in logs if entry["log_level"] in ("error", "warning")]
    assert (await admin.ask(200, "GET", f"/sessions/{session_id}"))["message_count"] == 2


async def test_counters_are_fed_and_carry_no_name_of_a_tenant_or_a_model(world: World, admin: Caller) -> None:
    odd = f"tool-{uuid.uuid4().hex}"
    child = await world.assistant(admin, say("Found."))
    calls = Reply(calls=(Call(odd), Call(f"spawn_{child.agent}", {"description": "Look."})))
    assistant = await world.assistant(admin, calls, say("ok"), can_spawn=[child.agent])
    before = await metrics_of(world)
    turn = await admin.chat(assistant.schema)
    after = await metrics_of(world)
    for counted in (
        'turns_total{result="completed"}',
        'llm_requests_total{provider="openai_compatible",result="ok"}',
        'llm_tokens_total{kind="input",provider="openai_compatible"}',
        'tool_calls_total{status="completed",tool="spawn"}',
        "llm_turn_seconds_count",
    ):
        assert _sample(after, counted) > _sample(before, counted), counted
    for named in (odd, child.agent, assistant.schema, turn.session_id, admin.principal.tenant_id):
        assert named not in after


def _sample(exposition: str, name: str) -> float:
    found = [line for line in exposition.splitlines() if line.split(" ")[0].removeprefix("weir_") == name]
    return float(found[0].rpartition(" ")[2]) if found else 0.0
