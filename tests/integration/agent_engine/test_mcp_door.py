"""The platform as an MCP server, asked by the official client through a gateway."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from tests.fakes.lake_server import FakeLake, serve_fake_lake
from tests.fakes.model_server import Reply, say, use
from tests.integration.agent_engine.conftest import Caller
from tests.integration.agent_engine.door import Door
from tests.serving import served

from weir.agent_engine.mcp_door import PAGE
from weir.gateway.app import create_app
from weir_shared.auth.keys import TICKET_KEY, load_or_create_key_pair
from weir_shared.auth.tickets import TicketInspector
from weir_shared.settings import Settings

LAKE = ["lake_query", "lake_tables", "lake_schema", "lake_sample"]
TABLES = {
    "tables": [
        {
            "name": "flights",
            "kind": "dataset",
            "description": "All",
            "columns": [{"name": "id", "type": "int64", "nullable": False}],
        }
    ]
}
ROWS = {"rows": [{"x": 1}], "schema": [{"name": "x", "type": "int64"}], "rowCount": 1, "truncated": False}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@pytest.fixture(scope="module")
async def lake(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FakeLake]:
    async with serve_fake_lake() as fake:
        yield fake


@pytest.fixture(scope="module")
async def gate(
    start_world: Callable[..., Any],
    dsn: str,
    redis_url: str,
    lake: FakeLake,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Door]:
    data_dir: Path = tmp_path_factory.mktemp("gate")
    async with start_world(data_dir, lake_url=lake.url) as world:
        settings = Settings(data_dir=data_dir, database_url=dsn, redis_url=redis_url, engine_url=world.url)
        keys = load_or_create_key_pair(settings.keys_dir, TICKET_KEY)
        lake.inspector = TicketInspector(keys.public, "context-lake")
        async with served(create_app(settings)) as url:
            yield Door(url, world, settings)


@asynccontextmanager
async def client(gate: Door, credential: str, **options: Any) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {credential}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30) as http,
        Client(streamable_http_client(f"{gate.url}/mcp", http_client=http), **options) as session,
    ):
        yield session


def text_of(result: Any) -> str:
    return result.content[0].text


async def ended(gate: Door, admin: Caller) -> None:
    """Waits until the tenant's one turn, which has begun, goes on no more."""
    [session] = (await admin.ask(200, "GET", "/sessions"))["sessions"]
    running = gate.world.app.state.studio.running
    log = running.log_of((admin.principal.tenant_id, session["id"]))
    assert log is not None
    async with asyncio.timeout(10):
        while not log.ended:
            await asyncio.sleep(0.05)


async def names(session: Client) -> list[str]:
    return [tool.name for tool in (await session.list_tools()).tools]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_tools_are_the_lakes_and_each_schema_that_is_open(
    gate: Door, tenant_id: str, mode: str
) -> None:
    admin = gate.world.caller(tenant_id)
    open_one = await gate.world.assistant(admin, say("hi"))
    closed = await gate.world.assistant(admin, say("hi"), schema={"chat_enabled": False})
    async with client(gate, gate.session(tenant_id), mode=mode) as session:
        listed = (await session.list_tools()).tools
    assert [tool.name for tool in listed] == [*LAKE, f"ask_{open_one.schema}"]
    assert closed.schema not in str(listed)
    assert all(tool.annotations.read_only_hint for tool in listed[:4])
    assert listed[4].input_schema["required"] == ["message"]


async def test_each_lake_tool_asks_as_the_caller(gate: Door, lake: FakeLake, tenant_id: str) -> None:
    token = await gate.token(tenant_id, "lake:query")
    lake.callers.clear()
    async with client(gate, token) as session:
        lake.status, lake.answer = 200, ROWS
        answered = await session.call_tool("lake_query", {"query": "select 1 as x"})
        assert json.loads(text_of(answered)) == {"columns": ["x"], "rows": [[1]], "row_count": 1}
        assert not answered.is_error
        lake.answer = TABLES
        assert (
            json.loads(text_of(await session.call_tool("lake_tables", {})))["tables"][0]["name"] == "flights"
        )
        described = json.loads(text_of(await session.call_tool("lake_schema", {"table": "flights"})))
        assert described["columns"] == [{"name": "id", "type": "int64", "nullable": False}]
        assert await names(session) == LAKE
    assert {(seen.tenant_id, seen.actor) for seen in lake.callers} == {(tenant_id, "api_token")}


async def test_what_the_lake_refuses_is_a_result_that_says_so(
    gate: Door, lake: FakeLake, tenant_id: str
) -> None:
    lake.status, lake.answer = 400, {"error": "no column named y", "code": "invalid_sql"}
    async with client(gate, gate.session(tenant_id)) as session:
        refused = await session.call_tool("lake_query", {"query": "select y"})
        empty = await session.call_tool("lake_query", {"query": 5})
    lake.status = 200
    assert (refused.is_error, text_of(refused)) == (True, "no column named y")
    assert empty.is_error
    assert "needs the argument" in text_of(empty)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_schema_answers_and_its_conversation_goes_on(gate: Door, tenant_id: str, mode: str) -> None:
    admin = gate.world.caller(tenant_id)
    assistant = await gate.world.assistant(
        admin, use("lake_tables", {}), say("Four."), say("I said four."), tools=["lake_tables"]
    )
    token = await gate.token(tenant_id, "chat", "lake:query")
    told: list[str | None] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(message)

    async with client(gate, token, mode=mode) as session:
        tool = f"ask_{assistant.schema}"
        first = await session.call_tool(tool, {"message": "How many?"}, progress_callback=note)
        again = await session.call_tool(
            tool, {"message": "What?", "session_id": first.structured_content["session_id"]}
        )
    assert (text_of(first), first.is_error) == ("Four.", False)
    assert first.structured_content["message"] == "Four."
    assert first.content[1].text == f"session_id: {first.structured_content['session_id']}"
    assert told == ["Calls lake_tables"]
    assert text_of(again) == "I said four."
    assert again.structured_content["session_id"] == first.structured_content["session_id"]
    assert "Four." in str(assistant.brain.requests[-1]["messages"])


@pytest.mark.parametrize(
    ("scopes", "seen"), [(("chat",), ["ask"]), (("lake:query",), LAKE), (("agents:read",), [])]
)
async def test_a_token_sees_and_calls_what_its_scopes_allow(
    gate: Door, tenant_id: str, scopes: tuple[str, ...], seen: list[str]
) -> None:
    assistant = await gate.world.assistant(gate.world.caller(tenant_id), say("hi"))
    ask = f"ask_{assistant.schema}"
    wanted = [ask if name == "ask" else name for name in seen]
    async with client(gate, await gate.token(tenant_id, *scopes)) as session:
        assert await names(session) == wanted
        for forbidden in {ask, *LAKE} - set(wanted):
            with pytest.raises(MCPError, match="There is no tool"):
                await session.call_tool(forbidden, {"message": "hi"})


async def test_another_tenants_schema_is_no_tool(gate: Door, tenant_id: str, database: Any) -> None:
    other_tenant = str(uuid.uuid4())
    async with database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) values ($1)", other_tenant)
    theirs = await gate.world.assistant(gate.world.caller(other_tenant), say("secret"))
    async with client(gate, gate.session(tenant_id)) as session:
        assert await names(session) == LAKE
        with pytest.raises(MCPError, match="There is no tool"):
            await session.call_tool(f"ask_{theirs.schema}", {"message": "hi"})


async def test_a_session_of_somebody_else_is_not_gone_on_with(gate: Door, tenant_id: str) -> None:
    assistant = await gate.world.assistant(gate.world.caller(tenant_id), say("mine"), say("never"))
    tool = f"ask_{assistant.schema}"
    async with client(gate, gate.session(tenant_id, "chat", "one")) as session:
        mine = (await session.call_tool(tool, {"message": "hi"})).structured_content["session_id"]
    async with client(gate, gate.session(tenant_id, "chat", "two")) as session:
        refused = await session.call_tool(tool, {"message": "hi", "session_id": mine})
    assert refused.is_error
    assert f"There is no session '{mine}'" in text_of(refused)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"message": 5}, {"message": " "}, {"message": "message\0"}, {"message": "hi", "session_id": "x"}],
)
async def test_a_question_that_is_none_is_told(gate: Door, tenant_id: str, arguments: dict[str, Any]) -> None:
    assistant = await gate.world.assistant(gate.world.caller(tenant_id))
    async with client(gate, gate.session(tenant_id)) as session:
        refused = await session.call_tool(f"ask_{assistant.schema}", arguments)
    assert refused.is_error
    assert any(word in text_of(refused) for word in ("message", "session id", "U+0000"))
    assert assistant.brain.requests == []


async def test_a_turn_that_fails_is_a_result_that_says_so(gate: Door, tenant_id: str) -> None:
    assistant = await gate.world.assistant(gate.world.caller(tenant_id), Reply(status=400))
    async with client(gate, gate.session(tenant_id)) as session:
        failed = await session.call_tool(f"ask_{assistant.schema}", {"message": "hi"})
    assert failed.is_error
    assert "[ERROR]" in text_of(failed)


async def test_a_caller_who_leaves_ends_the_turn(gate: Door, tenant_id: str) -> None:
    admin = gate.world.caller(tenant_id)
    assistant = await gate.world.assistant(admin, Reply(delay=30.0))
    async with gate.http(gate.session(tenant_id)) as http:
        body = CALL | {
            "method": "tools/call",
            "params": {"name": f"ask_{assistant.schema}", "arguments": {"message": "hi"}},
        }
        with pytest.raises(httpx.TimeoutException):
            await http.post("/mcp", json=body, headers=HEADERS, timeout=1.0)
    await ended(gate, admin)


async def test_a_call_that_the_client_cancels_ends_the_turn(gate: Door, tenant_id: str) -> None:
    admin = gate.world.caller(tenant_id)
    assistant = await gate.world.assistant(admin, Reply(delay=30.0))
    async with client(gate, gate.session(tenant_id)) as session:
        with anyio.move_on_after(1.0) as scope:
            await session.call_tool(f"ask_{assistant.schema}", {"message": "hi"})
        assert scope.cancelled_caught
        await ended(gate, admin)


async def test_many_schemas_come_in_pages(gate: Door, tenant_id: str) -> None:
    admin = gate.world.caller(tenant_id)
    assistant = await gate.world.assistant(admin, say("hi"))
    for number in range(PAGE):
        body = {"name": f"s{number}", "entry_agent": assistant.agent, "chat_enabled": True}
        await admin.ask(201, "POST", "/schemas", body)
    async with client(gate, gate.session(tenant_id)) as session:
        first = await session.list_tools()
        rest = await session.list_tools(cursor=first.next_cursor)
        with pytest.raises(MCPError, match="cursor"):
            await session.list_tools(cursor="x")
    seen = [tool.name for tool in (*first.tools, *rest.tools)]
    assert len(first.tools) == PAGE
    assert len(set(seen)) == len(LAKE) + PAGE + 1
    assert rest.next_cursor is None


async def test_a_name_that_no_client_takes_is_made_safe(gate: Door, tenant_id: str) -> None:
    admin = gate.world.caller(tenant_id)
    assistant = await gate.world.assistant(admin, say("Hello"))
    name = "questions-" + "x" * 80
    await admin.ask(
        201, "POST", "/schemas", {"name": name, "entry_agent": assistant.agent, "chat_enabled": True}
    )
    async with client(gate, gate.session(tenant_id)) as session:
        [tool] = [tool for tool in (await session.list_tools()).tools if tool.title == name]
        assert len(tool.name) <= 64
        assert tool.name.replace("_", "").replace("-", "").isalnum()
        assert text_of(await session.call_tool(tool.name, {"message": "hi"})) == "Hello"


@pytest.mark.parametrize("credential", ["", "nonsense", "bb_" + "0" * 64])
async def test_without_a_credential_it_is_401_with_a_challenge(gate: Door, credential: str) -> None:
    async with gate.http(credential) as http:
        refused = await http.post("/mcp", json=CALL, headers=HEADERS)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"null", {}, 400),
        (b'{"jsonrpc":"2.0"}', {}, 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}' + b" " * (1 << 20), {}, 413),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}', {"Content-Type": "text/plain"}, 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}', {"Accept": "text/html"}, 406),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}', {"MCP-Protocol-Version": "1999-01-01"}, 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}', {"Origin": "https://elsewhere.example"}, 403),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}', {"Origin": "null"}, 403),
        (b"[" * 100_000, {}, 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}', {}, 400),
    ],
)
async def test_a_request_that_is_none_is_refused(
    gate: Door, tenant_id: str, content: bytes, headers: dict[str, str], status: int
) -> None:
    async with gate.http(gate.session(tenant_id)) as http:
        refused = await http.post("/mcp", content=content, headers=HEADERS | headers)
    assert refused.status_code == status, refused.text
    assert refused.text


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_there_are_no_sessions(gate: Door, tenant_id: str, method: str) -> None:
    async with gate.http(gate.session(tenant_id)) as http:
        refused = await http.request(method, "/mcp", headers=HEADERS)
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


async def test_a_page_from_here_may(gate: Door, tenant_id: str) -> None:
    async with gate.http(gate.session(tenant_id)) as http:
        asked = await http.post("/mcp", json=CALL, headers=HEADERS | {"Origin": gate.url})
    assert asked.status_code == 200, asked.text


async def test_a_call_is_in_the_trail(gate: Door, tenant_id: str) -> None:
    async with client(gate, gate.session(tenant_id)) as session:
        await session.list_tools()
    async with gate.http(gate.session(tenant_id)) as http:
        entries = (await http.get("/api/v1/audit", params={"action": "mcp.call"})).json()["data"]
    assert {entry["resource"] for entry in entries} == {"POST /mcp"}
    assert {entry["status"] for entry in entries} == {"completed"}
