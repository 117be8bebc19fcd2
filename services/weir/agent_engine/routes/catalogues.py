"""/api/v1/mcp/catalog and /api/v1/tools/metadata: what an agent may be given."""

from litestar import get
from litestar.params import FromQuery

from weir.agent_engine.mcp.catalogue import known_servers
from weir.agent_engine.tools.metadata import metadata
from weir.agent_engine.wire.mcp_catalogue import McpCatalogue, ToolMetadata
from weir_shared.auth.guards import requires_caller, requires_scope


@get("/mcp/catalog", guards=[requires_caller])
async def list_known_servers(
    category: FromQuery[str | None] = None, q: FromQuery[str | None] = None
) -> McpCatalogue:
    """The built-in catalogue of MCP servers; its filters combine. It configures nothing."""
    return known_servers(category, q)


@get("/tools/metadata", guards=[requires_scope("admin")])
async def list_tools_metadata() -> list[ToolMetadata]:
    """The platform's own tools, by name, with the JSON Schema of their arguments."""
    return metadata()


ROUTES = [list_known_servers, list_tools_metadata]
