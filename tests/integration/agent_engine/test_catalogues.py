"""What an agent may be given: the catalogue of MCP servers, and the platform's own tools."""

import pytest
from tests.integration.agent_engine.conftest import Caller, World

from weir.agent_engine.mcp.catalogue import mcp_catalogue
from weir.agent_engine.tools.names import KNOWN
from weir_shared.auth.principal import ANONYMOUS
from weir_shared.auth.tickets import HEADER


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("category=search", ["tavily-web-search", "brave-search", "exa-search"]),
        ("category=Data", ["google-sheets", "postgresql"]),
        ("q=SLACK", ["slack"]),
        ("q=own+index", ["brave-search"]),
        ("category=search&q=brave", ["brave-search"]),
        ("category=payments&q=brave", []),
        ("category=none-such", []),
    ],
)
async def test_filters_of_the_catalogue_combine(admin: Caller, query: str, names: list[str]):
    found = await admin.ask(200, "GET", f"/mcp/catalog?{query}")
    assert [server["name"] for server in found["servers"]] == names


async def test_the_catalogue_has_twelve_servers_each_with_a_way_to_have_it(world: World, tenant_id: str):
    caller = world.caller(tenant_id, "chat")
    found = await caller.ask(200, "GET", "/mcp/catalog")
    assert found["version"] == "1.0"
    assert len(found["servers"]) == 12
    place = {"stdio": "command", "remote": "url_template", "docker": "image"}
    for server in found["servers"]:
        assert server["packages"], server["name"]
        assert all(package[place[package["type"]]] for package in server["packages"])
        assert server.keys() == {
            "name", "display", "description", "category", "verified", "packages", "provided_tools",
        }  # fmt: skip
    caller.http.headers[HEADER] = world._office.issue(ANONYMOUS, "agent-engine")
    await caller.ask(401, "GET", "/mcp/catalog")
    await caller.http.aclose()


async def test_a_remote_server_of_the_catalogue_can_be_configured_as_it_stands(admin: Caller):
    [server] = [one for one in mcp_catalogue().servers if one.name == "github"]
    [package] = [one for one in server.packages if one.type == "remote"]
    [secret] = package.env_vars
    body = {
        "name": server.name,
        "type": package.transport,
        "url": package.url_template,
        "env_vars": {secret.name: "token"},
        "auth_type": "api_key",
        "auth_key_env": secret.name,
    }
    made = await admin.ask(201, "POST", "/mcp-servers", body)
    assert made["url"] == package.url_template


async def test_every_tool_that_is_offered_is_told_with_the_schema_of_its_arguments(admin: Caller):
    tools = await admin.ask(200, "GET", "/tools/metadata")
    assert [tool["name"] for tool in tools] == sorted(KNOWN)
    for tool in tools:
        assert tool["description"]
        assert tool["parameters"]["type"] == "object"
        assert tool["security_zone"] == "safe"
    [search] = [tool for tool in tools if tool["name"] == "knowledge_search"]
    assert "as data" in search["risk_warning"]


async def test_only_an_administrator_is_told_of_the_tools(world: World, tenant_id: str):
    caller = world.caller(tenant_id, "agents:write", "chat")
    await caller.ask(403, "GET", "/tools/metadata")
    await caller.http.aclose()
