"""What keeps tenants and callers apart, and what keeps bad bodies out."""

import uuid

import httpx
import pytest
from tests.fakes.model_server import say
from tests.integration.agent_engine.conftest import Caller, World

ROUTES = [
    ("GET", "/models", "models:read"),
    ("POST", "/models", "models:write"),
    ("GET", "/models/x", "models:read"),
    ("PUT", "/models/x", "models:write"),
    ("PATCH", "/models/x", "models:write"),
    ("DELETE", "/models/x", "models:write"),
    ("POST", "/models/x/verify", "models:write"),
    ("GET", "/agents", "agents:read"),
    ("POST", "/agents", "agents:write"),
    ("GET", "/agents/x", "agents:read"),
    ("PUT", "/agents/x", "agents:write"),
    ("PATCH", "/agents/x", "agents:write"),
    ("DELETE", "/agents/x", "agents:write"),
    ("GET", "/schemas", "schemas:read"),
    ("POST", "/schemas", "schemas:write"),
    ("GET", "/schemas/x", "schemas:read"),
    ("PUT", "/schemas/x", "schemas:write"),
    ("PATCH", "/schemas/x", "schemas:write"),
    ("DELETE", "/schemas/x", "schemas:write"),
    ("POST", "/schemas/x/chat", "chat"),
    ("GET", "/sessions", "chat"),
    ("GET", "/sessions/x", "chat"),
    ("GET", "/sessions/x/events", "chat"),
    ("DELETE", "/sessions/x", "chat"),
]


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
async def test_each_route_opens_to_its_scope_and_to_no_other(
    world: World, tenant_id: str, method: str, path: str, scope: str
) -> None:
    others = {other for _, _, other in ROUTES} - {scope}
    refusal = await world.caller(tenant_id, *others).ask(403, method, path, {})
    assert refusal == {"error": "forbidden", "message": f"Token does not have '{scope}' scope"}
    allowed = await world.caller(tenant_id, scope).call(method, path, {})
    assert allowed.status_code in (200, 400, 404)


async def test_without_a_ticket_nothing_is_served(world: World) -> None:
    async with httpx.AsyncClient(base_url=world.url) as stranger:
        for path in ("/api/v1/agents", "/internal/agents-count"):
            assert (await stranger.get(path)).status_code == 401


async def test_another_tenant_finds_nothing(world: World, admin: Caller, database) -> None:
    assistant = await world.assistant(admin, say("hi"))
    session_id = (await admin.chat(assistant.schema)).session_id
    other_id = str(uuid.uuid4())
    async with database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) values ($1)", other_id)
    other = world.caller(other_id)
    for path in ("/models", "/agents", "/schemas"):
        assert await other.ask(200, "GET", path) == []
        await other.ask(404, "GET", f"{path}/{assistant.agent}")
        await other.ask(404, "PUT", f"{path}/{assistant.agent}", {})
        await other.ask(404, "DELETE", f"{path}/{assistant.agent}")
    await other.ask(404, "POST", f"/schemas/{assistant.schema}/chat", {"message": "hi"})
    await other.ask(404, "GET", f"/sessions/{session_id}")
    await other.ask(404, "GET", f"/sessions/{session_id}/events")
    await other.ask(404, "DELETE", f"/sessions/{session_id}")
    model_id = (await admin.ask(200, "GET", f"/models/{assistant.model}"))["id"]
    await other.ask(400, "POST", "/agents", {"name": "thief", "model": model_id})
    # The same names and the same session id are free to the other tenant.
    own = await world.assistant(other, say("mine"))
    assert (await other.chat(own.schema, "hi", session_id)).text == "mine"
    assert len((await admin.ask(200, "GET", f"/sessions/{session_id}"))["messages"]) == 2


async def test_row_level_security_holds_where_a_statement_forgets_its_tenant(
    world: World, admin: Caller, database, tenant_id: str
) -> None:
    assistant = await world.assistant(admin, say("hi"))
    await admin.chat(assistant.schema)
    stranger = str(uuid.uuid4())
    for table in ("models", "agents", "schemas", "sessions", "turns", "messages"):
        async with database.tenant(tenant_id) as connection:
            assert await connection.fetchval("select current_user") == "weir_app"
            assert await connection.fetchval(f"select count(*) from {table}") > 0
        async with database.tenant(stranger) as connection:
            assert await connection.fetchval(f"select count(*) from {table}") == 0


HOSTILE = {
    "no body": b"",
    "no json": b"{",
    "deep": b'{"message":' * 50_000,
    "deep in a field": b'{"name":"x","other":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "bad utf-8": b'{"message":"\xff\xfe","name":"\xff"}',
    "nul": b'{"message":"a\\u0000b","name":"a","type":"ollama","model_name":"a\\u0000b"}',
    "lone surrogate": b'{"message":"\\ud800","name":"\\ud800"}',
    "huge integer": b'{"message":' + b"9" * 4000 + b',"name":1' + b"0" * 4000 + b"}",
    "infinite": b'{"message":1e999,"name":NaN}',
    "array": b"[]",
    "text": b'"x"',
    "null": b"null",
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize(
    "path", ["/models", "/agents", "/schemas", "/schemas/x/chat", "/models/x", "/agents/x"]
)
async def test_a_hostile_body_is_the_callers_fault(admin: Caller, kind: str, path: str) -> None:
    method = "PUT" if path in ("/models/x", "/agents/x") else "POST"
    response = await admin.http.request(
        method, f"/api/v1{path}", content=HOSTILE[kind], headers={"content-type": "application/json"}
    )
    assert response.status_code in (400, 404), response.text
    assert response.json().keys() >= {"error", "message"}


@pytest.mark.parametrize(
    "path",
    [
        "/models/%00",
        "/agents/%ff",
        "/schemas/..%2f..",
        "/sessions/%00",
        "/sessions/not-a-uuid",
        "/models/99999999999999999999999999",
        "/sessions/not-a-uuid/events",
        "/agents/" + "x" * 5000,
    ],
)
async def test_a_hostile_path_names_nothing(admin: Caller, path: str) -> None:
    assert (await admin.call("GET", path)).status_code == 404


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=0", 200),
        ("limit=-5&offset=-5", 200),
        ("limit=99999999999999999999&offset=99999999999999999999", 200),
        ("limit=many", 400),
        ("agent=%00", 200),
        ("agent=%F0%9F%98%80&status=odd", 200),
    ],
)
async def test_hostile_filters_find_nothing_and_break_nothing(admin: Caller, query: str, status: int) -> None:
    assert (await admin.call("GET", f"/sessions?{query}")).status_code == status


async def test_what_a_model_says_is_kept_whatever_is_in_it(world: World, admin: Caller) -> None:
    odd = "a\0b \\u0000 \u2028 😀 </script>\r\n\ndata: x"
    assistant = await world.assistant(admin, say(odd))
    turn = await admin.chat(assistant.schema)
    assert turn.text == turn.one("message")["content"] == odd
    session = await admin.ask(200, "GET", f"/sessions/{turn.session_id}")
    assert session["messages"][1]["content"] == odd.replace("\0", "")
