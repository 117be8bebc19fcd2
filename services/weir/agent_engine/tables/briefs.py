"""What a turn has to know before it begins: a schema, its entry agent and the agent's model, in one look."""

from msgspec import Struct

from weir.agent_engine.tables.agents import AgentRow
from weir.agent_engine.tables.models import ModelRow
from weir_shared.db.pool import Connection, Record


class Brief(Struct, frozen=True, kw_only=True):
    """A schema as a turn sees it; no agent and no model when it has no entry agent."""

    schema_id: str
    schema_name: str
    chat_enabled: bool
    agent: AgentRow | None
    model: ModelRow | None


async def find(connection: Connection, tenant_id: str, name: str, id: str | None) -> Brief | None:
    row = await connection.fetchrow(
        """
        select schemas.id, schemas.name, schemas.chat_enabled,
               agents.id as agent_id, agents.name as agent_name, agents.description as agent_description,
               agents.model_id as agent_model_id, agents.system_prompt, agents.lifecycle,
               agents.tool_execution, agents.max_steps, agents.max_context_size, agents.max_turn_duration,
               agents.temperature, agents.top_p, agents.max_tokens, agents.stop_sequences, agents.tools,
               agents.mcp_servers, agents.can_spawn, agents.confirm_before, agents.knowledge_base_ids,
               agents.is_system, agents.created_at as agent_created_at, agents.updated_at as agent_updated_at,
               models.name as model, models.type as model_type, models.kind as model_kind,
               models.model_name, models.base_url, models.api_key_sealed, models.api_version,
               models.embedding_dim, models.is_default, models.created_at as model_created_at,
               models.updated_at as model_updated_at
        from schemas
        left join agents on agents.tenant_id = schemas.tenant_id and agents.id = schemas.entry_agent_id
        left join models on models.tenant_id = agents.tenant_id and models.id = agents.model_id
        where schemas.tenant_id = $1 and (schemas.name = $2 or schemas.id = $3)
        """,
        tenant_id,
        name,
        id,
    )
    return _brief(row) if row else None


def _brief(row: Record) -> Brief:
    known = row["agent_id"] is not None
    return Brief(
        schema_id=row["id"],
        schema_name=row["name"],
        chat_enabled=row["chat_enabled"],
        agent=_agent(row) if known else None,
        model=_model(row) if known else None,
    )


def _agent(row: Record) -> AgentRow:
    return AgentRow(
        id=row["agent_id"],
        name=row["agent_name"],
        description=row["agent_description"],
        model_id=row["agent_model_id"],
        model=row["model"],
        system_prompt=row["system_prompt"],
        lifecycle=row["lifecycle"],
        tool_execution=row["tool_execution"],
        max_steps=row["max_steps"],
        max_context_size=row["max_context_size"],
        max_turn_duration=row["max_turn_duration"],
        temperature=row["temperature"],
        top_p=row["top_p"],
        max_tokens=row["max_tokens"],
        stop_sequences=row["stop_sequences"],
        tools=row["tools"],
        mcp_servers=row["mcp_servers"],
        can_spawn=row["can_spawn"],
        confirm_before=row["confirm_before"],
        knowledge_base_ids=row["knowledge_base_ids"],
        is_system=row["is_system"],
        created_at=row["agent_created_at"],
        updated_at=row["agent_updated_at"],
        used_in_schemas=[],
    )


def _model(row: Record) -> ModelRow:
    return ModelRow(
        id=row["agent_model_id"],
        name=row["model"],
        type=row["model_type"],
        kind=row["model_kind"],
        model_name=row["model_name"],
        base_url=row["base_url"],
        api_key_sealed=row["api_key_sealed"],
        api_version=row["api_version"],
        embedding_dim=row["embedding_dim"],
        is_default=row["is_default"],
        created_at=row["model_created_at"],
        updated_at=row["model_updated_at"],
    )
