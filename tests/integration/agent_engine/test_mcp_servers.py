"""MCP servers: create, read, merge, delete; what of them is secret, and what refers to them."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.agent_engine.conftest import Caller, World

from weir.agent_engine.mcp.configured import find_server

URL = "https://mcp.example.com/mcp"


async def make(admin: Caller, **fields: Any) -> dict[str, Any]:
    name = f"s-{uuid.uuid4().hex[:8]}"
    return await admin.ask(
        201, "POST", "/mcp-servers", {"name": name, "type": "streamable-http", "url": URL} | fields
    )


async def test_a_server_is_created_read_changed_and_deleted(admin: Caller):
    made = await make(admin)
    path = f"/mcp-servers/{made['name']}"
    assert made["auth_type"] == "none"
    assert made["enabled"] is True
    assert made["agents"] == []
    assert [server["name"] for server in await admin.ask(200, "GET", "/mcp-servers")] == [made["name"]]
    assert await admin.ask(200, "GET", f"/mcp-servers/{made['id']}") == made
    await admin.ask(400, "PUT", path, {"url": URL})
    put = await admin.ask(200, "PUT", path, {"type": "sse", "url": f"{URL}/sse"})
    assert (put["type"], put["url"]) == ("sse", f"{URL}/sse")
    patched = await admin.ask(200, "PATCH", path, {"enabled": False})
    assert (patched["type"], patched["enabled"]) == ("sse", False)
    await admin.ask(409, "POST", "/mcp-servers", {"name": made["name"], "type": "sse", "url": URL})
    await admin.ask(409, "PATCH", path, {"name": "other"})
    await admin.ask(204, "DELETE", path)
    await admin.ask(404, "GET", path)
    await admin.ask(404, "DELETE", path)


async def test_the_values_of_the_environment_stay_inside(admin: Caller, world: World):
    made = await make(
        admin, env_vars={"KEY": "s3cret", "ORG": "acme"}, auth_type="api_key", auth_key_env="KEY"
    )
    path = f"/mcp-servers/{made['name']}"
    assert made["env_vars"] == {"KEY": "${KEY}", "ORG": "${ORG}"}
    read = await admin.ask(200, "GET", path)
    again = await admin.ask(200, "PUT", path, read | {"env_vars": read["env_vars"] | {"ORG": "other"}})
    assert again["env_vars"] == made["env_vars"]
    tenant = admin.principal.tenant_id
    servers = world.app.state.studio.mcp_servers
    async with world.app.state.studio.database.tenant(tenant) as connection:
        row = await connection.fetchrow("select * from mcp_servers where tenant_id = $1", tenant)
        assert row is not None
        assert b"s3cret" not in row["env_sealed"]
    async with world.app.state.studio.database.tenant(tenant) as connection:
        found = await find_server(connection, tenant, made["name"])
    assert await servers.environment(tenant, found) == {"KEY": "s3cret", "ORG": "other"}
    left = await admin.ask(200, "PATCH", path, {"env_vars": {"KEY": "${KEY}"}})
    assert left["env_vars"] == {"KEY": "${KEY}"}
    refused = await admin.ask(400, "PATCH", path, {"env_vars": {"KEY": "${KEY}", "NEW": "${NEW}"}})
    assert "env_vars.NEW: there is no value to keep" in refused["message"]
    assert "s3cret" not in str(await admin.ask(200, "GET", "/mcp-servers"))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"type": "docker"}, "type"),
        ({"type": "stdio", "command": "sh"}, "WEIR_MCP_STDIO=1"),
        ({"url": None}, "needs its address"),
        ({"url": "ftp://example.com"}, "http:// or https://"),
        ({"url": "http://user:secret@example.com/mcp"}, "user name or a password"),
        ({"url": "http://169.254.169.254/latest"}, "never reachable"),
        ({"auth_type": "api_key"}, "auth_key_env"),
        ({"auth_type": "api_key", "auth_key_env": "PATH"}, "env_vars has no 'PATH'"),
        ({"auth_type": "oauth2", "auth_token_env": "T", "env_vars": {"T": "a\nb"}}, "printable ASCII"),
        ({"auth_type": "forward_headers"}, "name the headers"),
        ({"forward_headers": ["Host"]}, "not passed on"),
        ({"forward_headers": ["X Y"]}, "forward_headers"),
        ({"env_vars": {"1A": "x"}}, "env_vars"),
        ({"name": "Not A Name"}, "is no name"),
    ],
)
async def test_what_makes_no_sense_is_refused(admin: Caller, fields: dict[str, Any], sentence: str):
    body = {"name": "server", "type": "streamable-http", "url": URL} | fields
    refused = await admin.ask(400, "POST", "/mcp-servers", body)
    assert sentence in str(refused)
    assert await admin.ask(200, "GET", "/mcp-servers") == []


async def test_stdio_cannot_be_slipped_in_by_a_change(admin: Caller):
    made = await make(admin)
    for method in ("PUT", "PATCH"):
        body = {"type": "stdio", "command": "sh"}
        refused = await admin.ask(400, method, f"/mcp-servers/{made['name']}", body)
        assert "WEIR_MCP_STDIO=1" in refused["message"]


async def test_stdio_is_taken_where_the_operator_allows_it(start_world: Callable[..., Any], tenant_id: str):
    async with start_world(mcp_stdio=True) as world:
        admin = world.caller(tenant_id)
        made = await make(admin, type="stdio", command="files-mcp", args=["--root", "/srv"], url=None)
        assert (made["command"], made["args"], made["url"]) == ("files-mcp", ["--root", "/srv"], None)
        await admin.http.aclose()


async def test_agents_name_servers_that_exist_and_keep_them(admin: Caller, world: World):
    made = await make(admin)
    name = (await world.assistant(admin, mcp_servers=[made["id"]])).agent
    assert (await admin.ask(200, "GET", f"/agents/{name}"))["mcp_servers"] == [made["name"]]
    assert (await admin.ask(200, "GET", f"/mcp-servers/{made['name']}"))["agents"] == [name]
    near = made["name"][:-1]
    refused = await admin.ask(400, "PATCH", f"/agents/{name}", {"mcp_servers": [near]})
    assert f"did you mean '{made['name']}'?" in refused["message"]
    kept = await admin.ask(409, "DELETE", f"/mcp-servers/{made['name']}")
    assert name in kept["message"]
    await admin.ask(200, "PATCH", f"/agents/{name}", {"mcp_servers": []})
    await admin.ask(204, "DELETE", f"/mcp-servers/{made['name']}")


async def test_another_tenant_sees_nothing(admin: Caller, world: World):
    made = await make(admin)
    other = world.caller(str(uuid.uuid4()))
    assert await other.ask(200, "GET", "/mcp-servers") == []
    for method in ("GET", "DELETE"):
        await other.ask(404, method, f"/mcp-servers/{made['id']}")
    await other.ask(404, "PATCH", f"/mcp-servers/{made['name']}", {"enabled": False})
    await other.http.aclose()
