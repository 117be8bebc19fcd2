"""The catalogue of known MCP servers, which is only read: to have one, configure it. Its facts are in `catalogue.json`."""

from functools import cache
from importlib.resources import files

import msgspec

from weir.agent_engine.wire.mcp_catalogue import ListedServer, McpCatalogue


@cache
def mcp_catalogue() -> McpCatalogue:
    content = files("weir.agent_engine.mcp").joinpath("catalogue.json").read_bytes()
    return msgspec.json.decode(content, type=McpCatalogue)


def known_servers(category: str | None, text: str | None) -> McpCatalogue:
    """The servers of the category that have the text in a name or in their description, in any case of letters."""
    known = mcp_catalogue()
    wanted, sought = (category or "").strip().lower(), (text or "").strip().lower()
    return McpCatalogue(
        version=known.version,
        servers=[
            server
            for server in known.servers
            if wanted in ("", server.category) and sought in _said_of(server).lower()
        ],
    )


def _said_of(server: ListedServer) -> str:
    return "\n".join((server.name, server.display, server.description))
