"""/api/v1/mcp-servers"""

from litestar import delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from weir.agent_engine.mcp.configured import find_server
from weir.agent_engine.mcp.connection import McpTrouble
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.mcp_servers import (
    McpServerChange,
    McpServerDetail,
    McpServerPut,
    NewMcpServer,
    Refreshed,
)
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.errors import WeirError


class McpServerFailed(WeirError):
    status, code = 502, "mcp_server_failed"


READ = [requires_scope("mcp:read")]
WRITE = [requires_scope("mcp:write")]


@get("/mcp-servers", guards=READ)
async def list_mcp_servers(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal]
) -> list[McpServerDetail]:
    """The tenant's MCP servers, by name."""
    return await studio.mcp_servers.list(principal.tenant_id)


@post("/mcp-servers", guards=WRITE)
async def create_mcp_server(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], data: JSONBody[NewMcpServer]
) -> McpServerDetail:
    """Configures an MCP server; agents that name it in `mcp_servers` get its tools."""
    return await studio.mcp_servers.create(principal.tenant_id, data)


@get("/mcp-servers/{name:str}", guards=READ)
async def read_mcp_server(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], name: FromPath[str]
) -> McpServerDetail:
    """One MCP server, by its name or its id."""
    return await studio.mcp_servers.read(principal.tenant_id, name)


@put("/mcp-servers/{name:str}", guards=WRITE)
async def update_mcp_server(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    data: JSONBody[McpServerPut],
) -> McpServerDetail:
    """Changes the fields that are sent, with the type; a value of the environment that reads `${NAME}` stays."""
    return await studio.mcp_servers.change(principal.tenant_id, name, data)


@patch("/mcp-servers/{name:str}", guards=WRITE)
async def patch_mcp_server(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    data: JSONBody[McpServerChange],
) -> McpServerDetail:
    """Changes the fields that are sent."""
    return await studio.mcp_servers.change(principal.tenant_id, name, data)


@delete("/mcp-servers/{name:str}", guards=WRITE)
async def delete_mcp_server(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], name: FromPath[str]
) -> None:
    """Deletes an MCP server that no agent uses."""
    id = (await studio.mcp_servers.read(principal.tenant_id, name)).id
    await studio.mcp_servers.delete(principal.tenant_id, name)
    await studio.switchboard.forget(principal.tenant_id, id)


@post("/mcp-servers/{name:str}/refresh", guards=WRITE, status_code=200)
async def refresh_mcp_server(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], name: FromPath[str]
) -> Refreshed:
    """Asks the server for its tools now; agents have them from the next turn on."""
    tenant_id = principal.tenant_id
    async with studio.database.tenant(tenant_id) as connection:
        row = await find_server(connection, tenant_id, name)
    try:
        tools = await studio.switchboard.tools_of(tenant_id, row, fresh=True)
    except McpTrouble as trouble:
        raise McpServerFailed(f"The MCP server '{row.name}' cannot be used: {trouble}") from None
    return Refreshed(name=row.name, tools_count=len(tools))


ROUTES = [
    list_mcp_servers,
    create_mcp_server,
    read_mcp_server,
    update_mcp_server,
    patch_mcp_server,
    delete_mcp_server,
    refresh_mcp_server,
]
