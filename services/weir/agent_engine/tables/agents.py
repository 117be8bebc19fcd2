"""Agents as rows, with the name of their model."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from weir_shared.db.pool import Connection, Record


class AgentRow(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    description: str
    model_id: int
    model: str
    system_prompt: str
    lifecycle: str
    tool_execution: str
    max_steps: int
    max_context_size: int
    max_turn_duration: int
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    stop_sequences: list[str]
    tools: list[str]
    mcp_servers: list[str]
    can_spawn: list[str]
    confirm_before: list[str]
    knowledge_base_ids: list[str]
    is_system: bool
    created_at: datetime
    updated_at: datetime
    used_in_schemas: list[str]
    capabilities: list[str] = []
    """The types of those that are enabled."""
    capability_configs: dict[str, dict[str, Any]] = {}
    """Theirs by type; known to a turn."""
    spawnable: list[str] = []
    """Those of `can_spawn` that exist."""


_AGENTS = """
    select agents.*, models.name as model,
           array(
               select schemas.name from schemas
               where schemas.tenant_id = agents.tenant_id
                     and (
                         schemas.entry_agent_id = agents.id
                         or exists (
                             select from agent_relations
                             where agent_relations.tenant_id = schemas.tenant_id
                                   and agent_relations.schema_id = schemas.id
                                   and agents.id in (agent_relations.source_id, agent_relations.target_id)
                         )
                     )
               order by schemas.name
           ) as used_in_schemas,
           array(
               select agent_capabilities.type from agent_capabilities
               where agent_capabilities.tenant_id = agents.tenant_id
                     and agent_capabilities.agent_id = agents.id and agent_capabilities.enabled
               order by agent_capabilities.type
           ) as capabilities,
           array(
               select others.name from agents as others
               where others.tenant_id = agents.tenant_id and others.name = any(agents.can_spawn)
               order by others.name
           ) as spawnable
    from agents
    join models on models.tenant_id = agents.tenant_id and models.id = agents.model_id
"""


async def every(connection: Connection, tenant_id: str) -> list[AgentRow]:
    rows = await connection.fetch(_AGENTS + "where agents.tenant_id = $1 order by agents.name", tenant_id)
    return [_row(row) for row in rows]


async def find(connection: Connection, tenant_id: str, name: str, id: str | None) -> AgentRow | None:
    """An agent by its name or its id; locked until the unit of work ends."""
    row = await connection.fetchrow(
        _AGENTS
        + """
        where agents.tenant_id = $1 and (agents.name = $2 or agents.id = $3)
        for no key update of agents
        """,
        tenant_id,
        name,
        id,
    )
    return _row(row) if row else None


async def names(connection: Connection, tenant_id: str) -> dict[str, str]:
    """The name of each agent of the tenant, by its id."""
    rows = await connection.fetch("select id, name from agents where tenant_id = $1 order by name", tenant_id)
    return {row["id"]: row["name"] for row in rows}


async def add(connection: Connection, tenant_id: str, row: AgentRow) -> None:
    """Raises UniqueViolation for a name that exists, ForeignKeyViolation for a model that is gone."""
    await connection.execute(
        """
        insert into agents (
            tenant_id, id, name, description, model_id, system_prompt, lifecycle, tool_execution, max_steps,
            max_context_size, max_turn_duration, temperature, top_p, max_tokens, stop_sequences, tools,
            mcp_servers, can_spawn, confirm_before, knowledge_base_ids, created_at, updated_at
        )
        values (
            $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
            $21, $22
        )
        """,
        tenant_id,
        row.id,
        row.name,
        *_said(row),
        row.created_at,
        row.updated_at,
    )


async def change(connection: Connection, tenant_id: str, row: AgentRow) -> None:
    await connection.execute(
        """
        update agents
        set description = $3, model_id = $4, system_prompt = $5, lifecycle = $6, tool_execution = $7,
            max_steps = $8, max_context_size = $9, max_turn_duration = $10, temperature = $11, top_p = $12,
            max_tokens = $13, stop_sequences = $14, tools = $15, mcp_servers = $16, can_spawn = $17,
            confirm_before = $18, knowledge_base_ids = $19, updated_at = $20
        where tenant_id = $1 and id = $2
        """,
        tenant_id,
        row.id,
        *_said(row),
        row.updated_at,
    )


async def touch(connection: Connection, tenant_id: str, id: str) -> None:
    """Says that an agent has changed, by something that belongs to it."""
    await connection.execute(
        "update agents set updated_at = now() where tenant_id = $1 and id = $2", tenant_id, id
    )


async def remove(connection: Connection, tenant_id: str, id: str) -> None:
    await connection.execute("delete from agents where tenant_id = $1 and id = $2", tenant_id, id)


async def count(connection: Connection, tenant_id: str) -> int:
    found = await connection.fetchval("select count(*) from agents where tenant_id = $1", tenant_id)
    assert found is not None
    return found


def _said(row: AgentRow) -> tuple[object, ...]:
    """What a tenant says of an agent, in the order of both statements."""
    return (
        row.description,
        row.model_id,
        row.system_prompt,
        row.lifecycle,
        row.tool_execution,
        row.max_steps,
        row.max_context_size,
        row.max_turn_duration,
        row.temperature,
        row.top_p,
        row.max_tokens,
        row.stop_sequences,
        row.tools,
        row.mcp_servers,
        row.can_spawn,
        row.confirm_before,
        row.knowledge_base_ids,
    )


def _row(row: Record) -> AgentRow:
    fields = dict(row)
    del fields["tenant_id"]
    return AgentRow(**fields)
