"""What a turn has to know before it begins: a schema, its entry agent and the agent's model, in one look."""

from collections.abc import Sequence

from msgspec import Struct

from weir.agent_engine.tables.agents import AgentRow
from weir.agent_engine.tables.models import ModelRow
from weir_shared.db.pool import Connection, Record


class Brief(Struct, frozen=True, kw_only=True):
    """A schema as a turn sees it; no agent and no model when it has no entry agent."""

    schema_id: str
    schema_name: str
    chat_enabled: bool
    has_relations: bool
    agent: AgentRow | None
    model: ModelRow | None


class AgentBrief(Struct, frozen=True, kw_only=True):
    """An agent that works for itself, in the schema that begins with it or in none."""

    schema_id: str | None
    schema_name: str
    has_relations: bool
    agent: AgentRow
    model: ModelRow


class Delegate(Struct, frozen=True, kw_only=True):
    """An agent that another may give tasks to, with the model that it thinks with."""

    agent: AgentRow
    model: ModelRow


# Of an agent and its model, all but whom it may spawn.
_AGENT = """
    select agents.id as agent_id, agents.name as agent_name, agents.description as agent_description,
    agents.model_id as agent_model_id, agents.system_prompt, agents.lifecycle, agents.tool_execution,
    agents.max_steps, agents.max_context_size, agents.max_turn_duration, agents.temperature, agents.top_p,
    agents.max_tokens, agents.stop_sequences, agents.tools, agents.mcp_servers, agents.confirm_before,
    agents.knowledge_base_ids, agents.is_system, agents.created_at as agent_created_at,
    agents.updated_at as agent_updated_at,
    (
        select jsonb_object_agg(agent_capabilities.type, agent_capabilities.config)
        from agent_capabilities
        where agent_capabilities.tenant_id = agents.tenant_id
              and agent_capabilities.agent_id = agents.id and agent_capabilities.enabled
    ) as capability_configs,
    models.name as model, models.type as model_type, models.kind as model_kind, models.model_name,
    models.base_url, models.api_key_sealed, models.api_version, models.embedding_dim, models.is_default,
    models.created_at as model_created_at, models.updated_at as model_updated_at
"""


async def find(connection: Connection, tenant_id: str, name: str, id: str | None) -> Brief | None:
    row = await connection.fetchrow(
        _AGENT  # noqa: S608 - a list of columns
        + """
            , schemas.id, schemas.name, schemas.chat_enabled,
               exists (
                   select from agent_relations
                   where agent_relations.tenant_id = schemas.tenant_id and agent_relations.schema_id = schemas.id
               ) as has_relations,
               -- Whom the agent may spawn anywhere, and to whom it hands work within this schema.
               agents.can_spawn || array(
                   select targets.name from agent_relations
                   join agents as targets
                        on targets.tenant_id = agent_relations.tenant_id
                           and targets.id = agent_relations.target_id
                   where agent_relations.tenant_id = schemas.tenant_id
                         and agent_relations.schema_id = schemas.id and agent_relations.source_id = agents.id
                   order by targets.name
               ) as can_spawn
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


async def of_agent(connection: Connection, tenant_id: str, agent_id: str) -> AgentBrief | None:
    """The schema is the oldest of those that begin with the agent."""
    row = await connection.fetchrow(
        _AGENT  # noqa: S608 - a list of columns
        + """
            , schemas.id, coalesce(schemas.name, '') as name,
               exists (
                   select from agent_relations
                   where agent_relations.tenant_id = agents.tenant_id and agent_relations.schema_id = schemas.id
               ) as has_relations,
               agents.can_spawn
        from agents
        join models on models.tenant_id = agents.tenant_id and models.id = agents.model_id
        left join lateral (
            select * from schemas
            where schemas.tenant_id = agents.tenant_id and schemas.entry_agent_id = agents.id
            order by schemas.created_at, schemas.id
            limit 1
        ) as schemas on true
        where agents.tenant_id = $1 and agents.id = $2
        """,
        tenant_id,
        agent_id,
    )
    if row is None:
        return None
    return AgentBrief(
        schema_id=row["id"],
        schema_name=row["name"],
        has_relations=row["has_relations"],
        agent=_agent(row),
        model=_model(row),
    )


async def delegates(
    connection: Connection, tenant_id: str, schema_id: str | None, agent_id: str, names: Sequence[str]
) -> list[Delegate]:
    """The agents of these names that exist, in their order, and those to which the schema lets the agent hand work."""
    rows = await connection.fetch(
        _AGENT  # noqa: S608 - a list of columns
        + """
            , agents.can_spawn
        from agents
        join models on models.tenant_id = agents.tenant_id and models.id = agents.model_id
        where agents.tenant_id = $1
              and (
                  agents.name = any($4::text[])
                  or agents.id in (
                      select target_id from agent_relations
                      where tenant_id = $1 and schema_id = $2 and source_id = $3
                  )
              )
        order by array_position($4::text[], agents.name), agents.name
        """,
        tenant_id,
        schema_id,
        agent_id,
        list(names),
    )
    return [Delegate(agent=_agent(row), model=_model(row)) for row in rows]


def _brief(row: Record) -> Brief:
    known = row["agent_id"] is not None
    return Brief(
        schema_id=row["id"],
        schema_name=row["name"],
        chat_enabled=row["chat_enabled"],
        has_relations=row["has_relations"],
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
        capabilities=list(row["capability_configs"] or ()),
        capability_configs=row["capability_configs"] or {},
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
