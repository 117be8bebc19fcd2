"""The tools of MCP servers, as an agent has them in one turn."""

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog
from msgspec import Struct

from weir.agent_engine.forwarded import ForwardedHeaders
from weir.agent_engine.mcp.connection import CALL_SECONDS, McpTrouble
from weir.agent_engine.mcp.switchboard import Switchboard
from weir.agent_engine.models.base import ToolDefinition
from weir.agent_engine.models.wire_names import safe_name
from weir.agent_engine.signals import ToolFailed
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import mcp_servers
from weir.agent_engine.tables.mcp_servers import McpServerRow
from weir.agent_engine.tools.base import Call, Tool
from weir.agent_engine.tools.timed import Timed
from weir_shared.sealing import SealError

if TYPE_CHECKING:
    from mcp.types import CallToolResult
    from mcp.types import Tool as Offered

SLACK_SECONDS = 15.0
MOST_RESULT_CHARACTERS = 100_000
MOST_SCHEMA_CHARACTERS = 65_536
MOST_DESCRIPTION_CHARACTERS = 4_000
LONGEST_NAME = 128

log = structlog.get_logger(__name__)


class ServerTools(Struct, frozen=True):
    """What one server offers at the beginning of a turn; nothing when it cannot be used."""

    server: McpServerRow
    tools: "Sequence[Offered]"
    is_there: bool = True


class McpTool:
    """One tool of one server."""

    def __init__(
        self,
        name: str,
        offered: "Offered",
        server: McpServerRow,
        tenant_id: str,
        switchboard: Switchboard,
        headers: Mapping[str, str],
    ) -> None:
        self._offered = offered
        self._server = server
        self._tenant_id = tenant_id
        self._switchboard = switchboard
        self._headers = dict(headers)
        description = (offered.description or offered.title or "")[:MOST_DESCRIPTION_CHARACTERS]
        parameters = {"type": "object", "properties": {}} | (offered.input_schema or {})
        self._definition = ToolDefinition(name=name, description=description, parameters=parameters)

    @property
    def definition(self) -> ToolDefinition:
        return self._definition

    async def run(self, call: Call) -> str:
        try:
            result = await self._switchboard.call(
                self._tenant_id, self._server, self._offered.name, call.arguments, self._headers
            )
        except TimeoutError:
            milliseconds = round(CALL_SECONDS * 1000)
            raise ToolFailed(f"tool_timeout: {call.tool} exceeded {milliseconds}ms") from None
        except McpTrouble as trouble:
            raise ToolFailed(f"The MCP server '{self._server.name}' failed: {trouble}") from None
        except SealError:
            raise ToolFailed(
                f"The secrets of the MCP server '{self._server.name}' cannot be opened"
            ) from None
        text = _text_of(result)
        if result.is_error:
            raise ToolFailed(text or "the tool says that it failed, and not why")
        return text


async def server_tools(studio: Studio, tenant_id: str, names: Sequence[str]) -> list[ServerTools]:
    """What the enabled ones of these servers offer, asked for all at once."""
    if not names:
        return []
    async with studio.database.tenant(tenant_id) as connection:
        rows = await mcp_servers.named(connection, tenant_id, names)
    return await asyncio.gather(*(_ask(studio, tenant_id, row) for row in rows))


def mcp_tools(
    found: Sequence[ServerTools],
    studio: Studio,
    tenant_id: str,
    headers: ForwardedHeaders,
    taken: Collection[str],
) -> list[tuple[Tool, tuple[str, ...]]]:
    """Each by its own name where no other tool of the agent has it, else with its server's in front."""
    usable = [(one.server, tool) for one in found for tool in _usable(one)]
    count = Counter(safe_name(tool.name) for _, tool in usable)
    tools: list[tuple[Tool, tuple[str, ...]]] = []
    for server, offered in usable:
        own, full = safe_name(offered.name), f"{server.name}__{offered.name}"
        name = own if count[own] == 1 and own not in taken else safe_name(full)
        chosen = headers.chosen(server.forward_headers)
        tool = McpTool(name, offered, server, tenant_id, studio.switchboard, chosen)
        tools.append(
            (Timed(tool, seconds=CALL_SECONDS + SLACK_SECONDS), (own, offered.name, full, safe_name(full)))
        )
    return tools


async def _ask(studio: Studio, tenant_id: str, row: McpServerRow) -> ServerTools:
    try:
        return ServerTools(row, await studio.switchboard.tools_of(tenant_id, row))
    except (McpTrouble, SealError) as trouble:
        log.warning(
            "agent goes without an mcp server",
            tenant_id=tenant_id,
            server=row.name,
            trouble=str(trouble)[:200],
        )
        return ServerTools(row, (), is_there=False)


def _usable(one: ServerTools) -> "list[Offered]":
    """The first of each name; what no model could be shown is left out."""
    kept: dict[str, Offered] = {}
    for tool in one.tools:
        schema: Any = tool.input_schema or {}
        fits = len(json.dumps(schema)) <= MOST_SCHEMA_CHARACTERS and 0 < len(tool.name) <= LONGEST_NAME
        if not fits or schema.get("type", "object") != "object":
            log.warning("mcp tool left out", server=one.server.name, tool=tool.name[:LONGEST_NAME])
        else:
            kept.setdefault(tool.name, tool)
    return list(kept.values())


def _text_of(result: "CallToolResult") -> str:
    """All that a model can read of a result; the rest in words."""
    parts: list[str] = []
    for block in result.content:
        if block.type == "text":
            parts.append(block.text)
        elif block.type == "resource_link":
            parts.append(f"[link to {block.uri}]")
        elif block.type == "resource":
            text = getattr(block.resource, "text", None)
            parts.append(text if text is not None else f"[resource {block.resource.uri}, not shown]")
        else:
            parts.append(f"[{block.type} of the type {block.mime_type}, not shown]")
    if not parts and result.structured_content is not None:
        parts.append(json.dumps(result.structured_content, ensure_ascii=False))
    text = "\n".join(parts)
    if len(text) > MOST_RESULT_CHARACTERS:
        text = f"{text[:MOST_RESULT_CHARACTERS]}\n[cut off: {len(text)} characters in all]"
    return text
