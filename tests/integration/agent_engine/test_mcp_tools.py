"""Tools of MCP servers in turns: real servers over each transport, and servers that are dead, slow or lie."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import mcp_server
from tests.fakes.mcp_server import serve_mcp
from tests.fakes.model_server import say, use
from tests.integration.agent_engine.conftest import Caller, World


async def server(admin: Caller, url: str, type: str = "streamable-http", **fields: Any) -> str:
    body = {"name": f"s-{uuid.uuid4().hex[:8]}", "type": type, "url": url or None} | fields
    return (await admin.ask(201, "POST", "/mcp-servers", body))["name"]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serve_mcp() as found:
        yield found


@pytest.mark.parametrize("kind", ["streamable-http", "http", "sse"])
async def test_an_agent_uses_the_tools_of_a_server(world: World, admin: Caller, kind: str):
    async with serve_mcp(kind) as address:
        name = await server(admin, address, kind)
        replies = use("echo", {"text": "hi"}), say("Done.")
        assistant = await world.assistant(admin, *replies, mcp_servers=[name])
        turn = await admin.chat(assistant.schema)
        assert turn.one("tool_result")["output"] == "echo: hi"
        assert turn.text == "Done."


async def test_a_program_is_a_server_where_the_operator_allows_it(
    start_world: Callable[..., Any], tenant_id: str
):
    async with start_world(mcp_stdio=True) as world:
        admin = world.caller(tenant_id)
        root = str(Path(mcp_server.__file__).parents[2])
        fields = {"command": sys.executable, "args": ["-m", "tests.fakes.mcp_server"]}
        name = await server(admin, "", "stdio", **fields, env_vars={"PYTHONPATH": root})
        replies = use("echo", {"text": "hi"}), say("Done.")
        assistant = await world.assistant(admin, *replies, mcp_servers=[name])
        assert (await admin.chat(assistant.schema)).one("tool_result")["output"] == "echo: hi"
        await admin.http.aclose()


async def test_a_tool_goes_by_its_own_name_where_nobody_else_has_it(world: World, admin: Caller, url: str):
    one, two = await server(admin, url), await server(admin, url)
    replies = use(f"{two}__echo", {"text": "hi"}), say("Done.")
    assistant = await world.assistant(admin, *replies, mcp_servers=[one, two])
    turn = await admin.chat(assistant.schema)
    assert turn.one("tool_result")["output"] == "echo: hi"


@pytest.mark.parametrize("gated", ["device.list", "{server}__device.list"])
async def test_a_gate_takes_every_name_of_a_tool(world: World, admin: Caller, url: str, gated: str):
    name = await server(admin, url)
    assistant = await world.assistant(
        admin, say("Done."), mcp_servers=[name], confirm_before=[gated.format(server=name)]
    )
    await admin.chat(assistant.schema)
    [request] = assistant.brain.requests
    system = request["messages"][0]["content"]
    assert "asked for approval: t_device_list_" in system


async def test_what_a_server_calls_an_error_is_data(world: World, admin: Caller, url: str):
    replies = use("fail"), say("Sorry.")
    assistant = await world.assistant(admin, *replies, mcp_servers=[await server(admin, url)])
    turn = await admin.chat(assistant.schema)
    result = turn.one("tool_result")
    assert result["has_error"]
    assert result["output"].startswith("[ERROR]")
    assert turn.text == "Sorry."


async def test_twenty_callers_at_once_keep_their_headers_to_themselves(world: World, admin: Caller, url: str):
    fields = {"env_vars": {"KEY": "k1"}, "auth_type": "api_key", "auth_key_env": "KEY"}
    name = await server(admin, url, forward_headers=["X-User"], **fields)
    made = [await world.assistant(admin, use("whoami"), say("Done."), mcp_servers=[name]) for _ in range(20)]

    async def turn(number: int) -> str:
        body = {"message": "hi", "headers": {"X-User": f"user-{number}", "X-Secret": "not for it"}}
        path = f"/schemas/{made[number].schema}/chat"
        async with admin.streaming(path, body) as frames:
            [output] = [frame.data["output"] async for frame in frames if frame.event == "tool_result"]
            return output

    said = await asyncio.gather(*map(turn, range(20)))
    assert said == [f"authorization=Bearer k1 x-user=user-{n} x-secret=None" for n in range(20)]


async def test_a_server_that_is_off_offers_nothing(world: World, admin: Caller, url: str):
    name = await server(admin, url, enabled=False)
    assistant = await world.assistant(admin, say("Hi."), mcp_servers=[name])
    await admin.chat(assistant.schema)
    [request] = assistant.brain.requests
    assert not request.get("tools")


Hostile = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{{{{{")
    await writer.drain()


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    while not writer.is_closing():
        writer.write(b": " + b"x" * 1000 + b"\n")
        await writer.drain()
        await asyncio.sleep(0.01)


async def huge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    size = 100 * 1024 * 1024
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    writer.write(head.encode())
    for _ in range(100):
        writer.write(b" " * 1024 * 1024)
        await writer.drain()


async def redirects(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 307 T\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


@asynccontextmanager
async def serve(hostile: Hostile) -> AsyncIterator[str]:
    tasks: set[asyncio.Task[Any]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await hostile(reader, writer)
        except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            tasks.discard(task)
        finally:
            writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/mcp"
    finally:
        for task in list(tasks):
            task.cancel()
        listener.close()


@pytest.mark.parametrize("hostile", [hangs, closes, garbage, endless, huge, redirects])
@pytest.mark.parametrize("kind", ["streamable-http", "sse"])
async def test_a_turn_goes_on_without_a_hostile_server(
    world: World, admin: Caller, hostile: Hostile, kind: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("weir.agent_engine.mcp.connection.CONNECT_SECONDS", 1.0)
    async with serve(hostile) as address:
        name = await server(admin, address, kind)
        assistant = await world.assistant(admin, say("Hi."), mcp_servers=[name])
        async with asyncio.timeout(8):
            turn = await admin.chat(assistant.schema)
        assert turn.text == "Hi."
        [request] = assistant.brain.requests
        assert f"those of the MCP server {name}" in request["messages"][0]["content"]


async def test_a_server_is_asked_for_its_tools_anew(admin: Caller, url: str):
    name = await server(admin, url)
    assert await admin.ask(200, "POST", f"/mcp-servers/{name}/refresh") == {"name": name, "tools_count": 5}
    [breaker] = (await admin.ask(200, "GET", "/resilience/circuit-breakers"))["breakers"]
    assert breaker == {"name": name, "state": "closed", "failure_count": 0}
    await admin.ask(404, "POST", "/mcp-servers/no-such/refresh")


async def test_a_server_that_fails_again_and_again_is_left_alone_until_somebody_resets_it(admin: Caller):
    async with serve(closes) as address:
        name = await server(admin, address)
        for _ in range(3):
            failed = await admin.ask(502, "POST", f"/mcp-servers/{name}/refresh")
            assert "circuit breaker" not in failed["message"]
        refused = await admin.ask(502, "POST", f"/mcp-servers/{name}/refresh")
        assert "[UNAVAILABLE] circuit breaker open" in refused["message"]
        [breaker] = (await admin.ask(200, "GET", "/resilience/circuit-breakers"))["breakers"]
        assert (breaker["state"], breaker["failure_count"]) == ("open", 3)
        path = f"/resilience/circuit-breakers/{name}/reset"
        assert await admin.ask(200, "POST", path) == {"status": "reset", "name": name}
        failed = await admin.ask(502, "POST", f"/mcp-servers/{name}/refresh")
        assert "circuit breaker" not in failed["message"]
    await admin.ask(404, "POST", "/resilience/circuit-breakers/no-such/reset")
