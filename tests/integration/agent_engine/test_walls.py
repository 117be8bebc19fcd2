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
    ("GET", "/agents/x/lifecycle", "agents:read"),
    ("GET", "/agents/x/capabilities", "agents:read"),
    ("POST", "/agents/x/capabilities", "agents:write"),
    ("PUT", "/agents/x/capabilities/x", "agents:write"),
    ("PATCH", "/agents/x/capabilities/x", "agents:write"),
    ("DELETE", "/agents/x/capabilities/x", "agents:write"),
    ("GET", "/schemas/x/agents", "schemas:read"),
    ("GET", "/schemas/x/agent-relations", "schemas:read"),
    ("POST", "/schemas/x/agent-relations", "schemas:write"),
    ("GET", "/schemas/x/agent-relations/x", "schemas:read"),
    ("PUT", "/schemas/x/agent-relations/x", "schemas:write"),
    ("PATCH", "/schemas/x/agent-relations/x", "schemas:write"),
    ("DELETE", "/schemas/x/agent-relations/x", "schemas:write"),
    ("POST", "/schema-templates/x/fork", "schemas:write"),
    ("POST", "/schemas/x/chat", "chat"),
    ("GET", "/sessions", "chat"),
    ("GET", "/sessions/x", "chat"),
    ("POST", "/sessions", "chat"),
    ("PUT", "/sessions/x", "chat"),
    ("GET", "/sessions/x/messages", "chat"),
    ("GET", "/sessions/x/events", "chat"),
    ("POST", "/sessions/x/respond", "chat"),
    ("DELETE", "/sessions/x", "chat"),
    ("GET", "/tasks", "tasks"),
    ("POST", "/tasks", "tasks"),
    ("GET", "/tasks/x", "tasks"),
    ("PATCH", "/tasks/x", "tasks"),
    ("DELETE", "/tasks/x", "tasks"),
    ("GET", "/tasks/x/subtasks", "tasks"),
    ("POST", "/tasks/x/approve", "tasks"),
    ("POST", "/tasks/x/start", "tasks"),
    ("POST", "/tasks/x/complete", "tasks"),
    ("POST", "/tasks/x/fail", "tasks"),
    ("POST", "/tasks/x/priority", "tasks"),
    ("POST", "/tasks/x/input", "tasks"),
    ("GET", "/dispatch/tasks/x", "tasks"),
    ("GET", "/sessions/x/dispatch-tasks", "tasks"),
    ("GET", "/triggers", "tasks"),
    ("POST", "/triggers", "tasks"),
    ("GET", "/triggers/x", "tasks"),
    ("PUT", "/triggers/x", "tasks"),
    ("PATCH", "/triggers/x", "tasks"),
    ("DELETE", "/triggers/x", "tasks"),
    ("GET", "/triggers/x/firings", "tasks"),
    ("GET", "/settings", "admin"),
    ("GET", "/settings/x", "admin"),
    ("PUT", "/settings/x", "admin"),
]


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
async def test_each_route_opens_to_its_scope_and_to_no_other(
    world: World, tenant_id: str, method: str, path: str, scope: str
) -> None:
    # `admin` implies every scope.
    others = {other for _, _, other in ROUTES} - {scope, "admin"}
    refusal = await world.caller(tenant_id, *others).ask(403, method, path, {})
    assert refusal == {"error": "forbidden", "message": f"Token does not have '{scope}' scope"}
    allowed = await world.caller(tenant_id, scope).call(method, path, {})
    assert allowed.status_code in (200, 201, 400, 404)


async def test_without_a_ticket_nothing_is_served(world: World) -> None:
    async with httpx.AsyncClient(base_url=world.url) as stranger:
        for path in ("/api/v1/agents", "/internal/agents-count"):
            assert (await stranger.get(path)).status_code == 401


async def test_templates_are_for_any_caller(world: World, tenant_id: str) -> None:
    caller = world.caller(tenant_id, "lake:read")
    assert (await caller.ask(200, "GET", "/schema-templates"))["templates"]
    await caller.ask(200, "GET", "/schema-templates/generic-hello-world")


async def test_another_tenant_finds_and_changes_nothing_of_what_belongs_to_agents_and_schemas(
    world: World, admin: Caller, database
) -> None:
    one, two = [await world.assistant(admin, say("hi")) for _ in range(2)]
    agent = await admin.ask(200, "GET", f"/agents/{one.agent}")
    schema = await admin.ask(200, "GET", f"/schemas/{one.schema}")
    ends = {"source": one.agent, "target": two.agent}
    relation = await admin.ask(201, "POST", f"/schemas/{one.schema}/agent-relations", ends)
    capability = await admin.ask(201, "POST", f"/agents/{one.agent}/capabilities", {"type": "memory"})
    await admin.ask(200, "PUT", "/settings/own", {"value": "secret"})
    session = (await admin.chat(one.schema)).session_id
    other_id = str(uuid.uuid4())
    async with database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) values ($1)", other_id)
    other = world.caller(other_id)
    own = await world.assistant(other, say("mine"))
    capabilities, relations = "capabilities", "agent-relations"
    for noun, owner, part, kept in (
        ("agents", agent, capabilities, capability),
        ("schemas", schema, relations, relation),
    ):
        for path in (f"/{noun}/{owner['id']}/{part}", f"/{noun}/{owner['name']}/{part}"):
            await other.ask(404, "GET", path)
            await other.ask(404, "POST", path, {"type": "memory", "source": own.agent, "target": own.agent})
            for method in ("PUT", "PATCH", "DELETE"):
                await other.ask(404, method, f"{path}/{kept['id']}", {})
        # Nor through something of its own.
        for method in ("PUT", "PATCH", "DELETE"):
            await other.ask(404, method, f"/{noun}/{own.agent}/{part}/{kept['id']}", {})
    await other.ask(404, "GET", f"/schemas/{schema['id']}/agents")
    await other.ask(404, "GET", f"/agents/{agent['id']}/lifecycle?session_id={session}")
    assert (await other.ask(200, "GET", f"/agents/{own.agent}/lifecycle?session_id={session}"))[
        "state"
    ] == "idle"
    foreign = {"source": own.agent, "target": agent["id"]}
    await other.ask(400, "POST", f"/schemas/{own.schema}/agent-relations", foreign)
    await other.ask(400, "PUT", f"/schemas/{own.schema}", {"entry_agent_id": agent["id"]})
    await other.ask(400, "PUT", f"/agents/{own.agent}", {"can_spawn": [agent["id"]]})
    await other.ask(400, "PUT", f"/agents/{own.agent}", {"model": agent["model_id"]})
    assert await other.ask(200, "GET", "/settings") == []
    await other.ask(404, "GET", "/settings/own")
    await other.ask(200, "PUT", "/settings/own", {"value": "theirs"})
    assert (await admin.ask(200, "GET", "/settings/own"))["value"] == "secret"
    assert await admin.ask(200, "GET", f"/agents/{one.agent}/capabilities") == [capability]
    assert await admin.ask(200, "GET", f"/schemas/{one.schema}/agent-relations") == [relation]


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
    other = await world.assistant(admin, say("hi"))
    await admin.chat(assistant.schema)
    ends = {"source": assistant.agent, "target": other.agent}
    await admin.ask(201, "POST", f"/schemas/{assistant.schema}/agent-relations", ends)
    await admin.ask(201, "POST", f"/agents/{other.agent}/capabilities", {"type": "memory"})
    await admin.ask(200, "PUT", "/settings/own", {"value": 1})
    stranger = str(uuid.uuid4())
    for table in [
        "models",
        "agents",
        "schemas",
        "sessions",
        "turns",
        "messages",
        "agent_relations",
        "agent_capabilities",
        "engine_settings",
    ]:
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
    "path",
    [
        "/models",
        "/agents",
        "/schemas",
        "/schemas/x/chat",
        "/models/x",
        "/agents/x",
        "/schemas/x/agent-relations",
        "/agents/x/capabilities",
        "/schema-templates/generic-hello-world/fork",
        "/settings/x",
    ],
)
async def test_a_hostile_body_is_the_callers_fault(admin: Caller, kind: str, path: str) -> None:
    method = "PUT" if path in ("/models/x", "/agents/x", "/settings/x") else "POST"
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
        "/agents/%00/lifecycle",
        "/agents/%ff/capabilities",
        "/schemas/x/agent-relations/%00",
        "/schema-templates/%00",
        "/settings/%00",
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
        ("user_sub=%00&page=-1&per_page=99999999999999999999", 200),
        ("page=99999999999999999999", 200),
        ("from=yesterday", 400),
        ("to=0001-01-01T00:00:00%2B14:00", 400),
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
