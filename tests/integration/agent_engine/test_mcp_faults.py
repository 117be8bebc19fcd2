"""Connections to MCP servers in bad times: calls that hang, servers that restart, breakers that open and close."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.fakes.mcp_server import Seen, serve_mcp
from tests.fakes.model_server import say, use
from tests.integration.agent_engine.conftest import Caller, World
from tests.integration.agent_engine.test_mcp_tools import server
from tests.serving import free_port


async def eventually(holds: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


async def breaker(admin: Caller, name: str) -> dict[str, Any]:
    found = (await admin.ask(200, "GET", "/resilience/circuit-breakers"))["breakers"]
    [one] = [one for one in found if one["name"] == name]
    return one


async def test_a_call_that_hangs_is_ended_and_the_turn_goes_on_over_the_same_connection(
    world: World, admin: Caller, monkeypatch: pytest.MonkeyPatch
):
    for module in ("mcp.connection", "tools.mcp"):
        monkeypatch.setattr(f"weir.agent_engine.{module}.CALL_SECONDS", 0.3)
    seen = Seen()
    async with serve_mcp(seen=seen) as url:
        name = await server(admin, url)
        replies = use("hang"), use("echo", {"text": "hi"}), say("It hung.")
        assistant = await world.assistant(admin, *replies, mcp_servers=[name])
        async with asyncio.timeout(5):
            turn = await admin.chat(assistant.schema)
        hung, echoed = [frame.data for frame in turn.of("tool_result")]
        assert hung["has_error"]
        assert hung["output"] == "[ERROR] tool_timeout: hang exceeded 300ms"
        assert (echoed["has_error"], echoed["output"]) == (False, "echo: hi")
        assert turn.text == "It hung."
        assert seen.count("initialize") == 1
        # What the server is told, so that it need not work on for nobody.
        await eventually(lambda: "notifications/cancelled" in seen.methods)


async def test_turns_share_a_connection_and_one_that_is_idle_is_closed(
    start_world: Callable[..., Any], tenant_id: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("weir.agent_engine.mcp.switchboard.IDLE_SECONDS", 1.0)
    monkeypatch.setattr("weir.agent_engine.mcp.switchboard.LOOK_SECONDS", 0.1)
    seen = Seen()
    async with start_world() as world, serve_mcp(seen=seen) as url:
        admin = world.caller(tenant_id)
        name = await server(admin, url)
        replies = [reply for _ in range(4) for reply in (use("echo", {"text": "hi"}), say("Done."))]
        assistant = await world.assistant(admin, *replies, mcp_servers=[name])
        for _ in range(3):
            await admin.chat(assistant.schema)
        assert (seen.count("initialize"), seen.count("tools/list"), seen.count("tools/call")) == (1, 1, 3)
        await eventually(lambda: seen.count("DELETE") == 1)
        turn = await admin.chat(assistant.schema)
        assert turn.one("tool_result")["output"] == "echo: hi"
        assert seen.count("initialize") == 2
        await admin.http.aclose()


@pytest.mark.parametrize("kind", ["streamable-http", "sse"])
async def test_a_server_that_was_restarted_is_connected_to_anew_within_the_call(
    world: World, admin: Caller, kind: str
):
    port, seen = free_port(), Seen()
    replies = [reply for _ in range(2) for reply in (use("echo", {"text": "hi"}), say("Done."))]
    async with serve_mcp(kind, port=port) as url:
        name = await server(admin, url, kind)
        assistant = await world.assistant(admin, *replies, mcp_servers=[name])
        assert (await admin.chat(assistant.schema)).one("tool_result")["output"] == "echo: hi"
    async with serve_mcp(kind, port=port, seen=seen):
        turn = await admin.chat(assistant.schema)
        assert turn.one("tool_result")["output"] == "echo: hi"
        assert (seen.count("initialize"), seen.count("tools/call")) == (1, 1 if kind == "sse" else 2)
    assert (await breaker(admin, name))["failure_count"] == 0


@pytest.mark.parametrize("kind", ["streamable-http", "sse"])
async def test_a_restarted_server_is_asked_for_its_tools_over_a_new_connection(admin: Caller, kind: str):
    port = free_port()
    async with serve_mcp(kind, port=port) as url:
        name = await server(admin, url, kind)
        await admin.ask(200, "POST", f"/mcp-servers/{name}/refresh")
    async with serve_mcp(kind, port=port):
        assert (await admin.ask(200, "POST", f"/mcp-servers/{name}/refresh"))["tools_count"] == 5


@pytest.mark.parametrize("kind", ["streamable-http", "sse"])
async def test_a_call_that_was_under_way_when_its_server_stopped_is_not_made_again(
    world: World, admin: Caller, kind: str
):
    port, before, after = free_port(), Seen(), Seen()
    async with serve_mcp(kind, port=port, seen=before) as url:
        name = await server(admin, url, kind)
        assistant = await world.assistant(admin, use("hang"), say("Gone."), mcp_servers=[name])
        turn = asyncio.create_task(admin.chat(assistant.schema))
        await eventually(lambda: "tools/call" in before.methods)
    async with serve_mcp(kind, port=port, seen=after), asyncio.timeout(5):
        told = await turn
        assert told.one("tool_result")["has_error"]
        assert told.text == "Gone."
        assert "tools/call" not in after.methods


async def test_a_server_that_is_gone_fails_its_call_and_not_the_turn(world: World, admin: Caller):
    async with serve_mcp() as url:
        name = await server(admin, url)
        replies = use("echo", {"text": "1"}), say("One."), use("echo", {"text": "2"}), say("Two.")
        assistant = await world.assistant(admin, *replies, mcp_servers=[name])
        await admin.chat(assistant.schema)
    turn = await admin.chat(assistant.schema)
    assert turn.one("tool_result")["output"].startswith(f"[ERROR] The MCP server '{name}' failed: ")
    assert turn.text == "Two."


async def test_a_breaker_opens_lets_one_try_through_and_closes_when_it_succeeds(
    admin: Caller, monkeypatch: pytest.MonkeyPatch
):
    port = free_port()
    name = await server(admin, f"http://127.0.0.1:{port}/mcp")
    path = f"/mcp-servers/{name}/refresh"
    for _ in range(3):
        await admin.ask(502, "POST", path)
    opened = await breaker(admin, name)
    assert (opened["state"], opened["failure_count"]) == ("open", 3)
    assert opened["last_failure"].endswith("Z")
    async with serve_mcp(port=port):
        refused = await admin.ask(502, "POST", path)
        assert "[UNAVAILABLE] circuit breaker open" in refused["message"]
        monkeypatch.setattr("weir.agent_engine.mcp.breaker.OPEN_SECONDS", 0.0)
        assert (await breaker(admin, name))["state"] == "half_open"
        assert (await admin.ask(200, "POST", path))["tools_count"] == 5
        closed = await breaker(admin, name)
        assert (closed["state"], closed["failure_count"]) == ("closed", 0)


async def test_a_try_that_fails_opens_the_breaker_again(admin: Caller, monkeypatch: pytest.MonkeyPatch):
    name = await server(admin, f"http://127.0.0.1:{free_port()}/mcp")
    path = f"/mcp-servers/{name}/refresh"
    for _ in range(3):
        await admin.ask(502, "POST", path)
    with monkeypatch.context() as patched:
        patched.setattr("weir.agent_engine.mcp.breaker.OPEN_SECONDS", 0.0)
        failed = await admin.ask(502, "POST", path)
        assert "circuit breaker" not in failed["message"]
    assert (await breaker(admin, name))["state"] == "open"


async def test_turns_go_on_without_a_server_whose_breaker_is_open_until_it_is_reset(
    world: World, admin: Caller
):
    port = free_port()
    name = await server(admin, f"http://127.0.0.1:{port}/mcp")
    for _ in range(3):
        await admin.ask(502, "POST", f"/mcp-servers/{name}/refresh")
    async with serve_mcp(port=port):
        replies = say("Without."), use("echo", {"text": "hi"}), say("With.")
        assistant = await world.assistant(admin, *replies, mcp_servers=[name])
        assert (await admin.chat(assistant.schema)).text == "Without."
        assert not assistant.brain.requests[0].get("tools")
        await admin.ask(200, "POST", f"/resilience/circuit-breakers/{name}/reset")
        assert (await breaker(admin, name)) == {"name": name, "state": "closed", "failure_count": 0}
        assert (await admin.chat(assistant.schema)).one("tool_result")["output"] == "echo: hi"


async def test_calls_that_hang_open_the_breaker_too(
    world: World, admin: Caller, monkeypatch: pytest.MonkeyPatch
):
    for module in ("mcp.connection", "tools.mcp"):
        monkeypatch.setattr(f"weir.agent_engine.{module}.CALL_SECONDS", 0.1)
    async with serve_mcp() as url:
        name = await server(admin, url)
        assistant = await world.assistant(admin, *[use("hang")] * 4, say("Enough."), mcp_servers=[name])
        turn = await admin.chat(assistant.schema)
    outputs = [frame.data["output"] for frame in turn.of("tool_result")]
    assert ["tool_timeout" in output for output in outputs] == [True, True, True, False]
    assert "[UNAVAILABLE] circuit breaker open" in outputs[3]
    assert (await breaker(admin, name))["state"] == "open"
    assert turn.text == "Enough."
