"""A tenant's configuration as a document: in the order of its names, without a secret."""

from typing import Any

import msgspec

from weir.agent_engine.http_tools import shown
from weir.agent_engine.mcp.configured import mask
from weir.agent_engine.tables import (
    agents,
    capabilities,
    http_tools,
    knowledge,
    mcp_servers,
    models,
    relations,
    schemas,
)
from weir_shared.clock import now, rfc3339
from weir_shared.db.pool import Connection, Database
from weir_shared.yaml_text import dump_yaml

_MODEL = ("type", "kind", "base_url", "model_name", "api_version", "embedding_dim")
_MCP_SERVER = (
    "type",
    "command",
    "args",
    "url",
    "forward_headers",
    "auth_type",
    "auth_key_env",
    "auth_token_env",
    "auth_client_id",
    "enabled",
)
_AGENT = (
    "description",
    "model",
    "lifecycle",
    "tool_execution",
    "max_steps",
    "max_context_size",
    "max_turn_duration",
    "temperature",
    "top_p",
    "max_tokens",
    "stop_sequences",
    "tools",
    "mcp_servers",
    "can_spawn",
    "confirm_before",
    "knowledge_base_ids",
)


async def export_document(database: Database, tenant_id: str) -> dict[str, Any]:
    """What the platform itself keeps for its tenants is not part of it."""
    async with database.tenant(tenant_id) as connection:
        return {
            "models": [_model(row) for row in await models.every(connection, tenant_id)],
            "mcp_servers": [_mcp_server(row) for row in await mcp_servers.every(connection, tenant_id)],
            "knowledge_bases": [
                {"name": row.name, "description": row.description, "embedding_model": row.embedding_model}
                for row in await knowledge.every_base(connection, tenant_id)
            ],
            "tools": [_tool(row) for row in await http_tools.every(connection, tenant_id)],
            "agents": [
                await _agent(connection, tenant_id, row)
                for row in await agents.every(connection, tenant_id)
                if not row.is_system
            ],
            "schemas": [
                await _schema(connection, tenant_id, row)
                for row in await schemas.every(connection, tenant_id)
                if not row.is_system
            ],
        }


def yaml_of(document: dict[str, Any]) -> str:
    head = (
        f"# The configuration of a Weir tenant, exported at {rfc3339(now())}. Secrets are not part of it.\n"
    )
    return head + dump_yaml(document)


def _model(row: models.ModelRow) -> dict[str, Any]:
    shown = {name: getattr(row, name) for name in _MODEL if getattr(row, name) is not None}
    return {"name": row.name} | shown | ({"is_default": True} if row.is_default else {})


def _mcp_server(row: mcp_servers.McpServerRow) -> dict[str, Any]:
    """Of its environment only the names; each value stands for the one that is kept."""
    shown = {name: getattr(row, name) for name in _MCP_SERVER if getattr(row, name) is not None}
    return {"name": row.name} | shown | {"env_vars": {name: mask(name) for name in row.env_names}}


def _tool(row: http_tools.HttpToolRow) -> dict[str, Any]:
    fields = msgspec.to_builtins(shown(row))
    fields["auth"] = {name: value for name, value in fields["auth"].items() if value is not None}
    return {"name": row.name, "type": "http"} | fields


async def _agent(connection: Connection, tenant_id: str, row: agents.AgentRow) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": row.name, "system": row.system_prompt}
    shown |= {name: getattr(row, name) for name in _AGENT if getattr(row, name) is not None}
    owned = await capabilities.every(connection, tenant_id, row.id)
    shown["capabilities"] = [
        {"type": one.type, "config": one.config, "enabled": one.enabled}
        for one in sorted(owned, key=lambda one: one.type)
    ]
    return shown


async def _schema(connection: Connection, tenant_id: str, row: schemas.SchemaRow) -> dict[str, Any]:
    edges = await relations.every(connection, tenant_id, row.id)
    return {
        "name": row.name,
        "description": row.description,
        "chat_enabled": row.chat_enabled,
        "entry_agent": row.entry_agent,
        "relations": [
            {"source": edge.source, "target": edge.target, "config": edge.config}
            for edge in sorted(edges, key=lambda edge: (edge.source, edge.target))
        ],
    }
