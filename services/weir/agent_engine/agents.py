"""The agents that a tenant has configured: create, read, merge, delete."""

from typing import Any

from msgspec import UNSET
from msgspec.structs import asdict, replace

from weir.agent_engine.naming import check_name, invalid, missing, reference
from weir.agent_engine.tables import agents, models
from weir.agent_engine.tables.agents import AgentRow
from weir.agent_engine.tables.models import ModelRow
from weir.agent_engine.tools.names import check_tools
from weir.agent_engine.wire.agents import AgentChange, AgentDetail, AgentFields, AgentSummary, NewAgent
from weir_shared.clock import now, rfc3339
from weir_shared.db.pool import Connection, Database, ForeignKeyViolation, UniqueViolation
from weir_shared.errors import Conflict, Forbidden
from weir_shared.ids import new_id

_LISTS = ("stop_sequences", "tools", "mcp_servers", "can_spawn", "confirm_before", "knowledge_base_ids")
_PLAIN = (
    "lifecycle",
    "tool_execution",
    "max_steps",
    "max_context_size",
    "max_turn_duration",
    "temperature",
    "top_p",
    "max_tokens",
)


async def list_agents(database: Database, tenant_id: str) -> list[AgentSummary]:
    async with database.tenant(tenant_id) as connection:
        return [_summary(row) for row in await agents.every(connection, tenant_id)]


async def read_agent(database: Database, tenant_id: str, name: str) -> AgentDetail:
    async with database.tenant(tenant_id) as connection:
        return _detail(await find_agent(connection, tenant_id, name))


async def count_agents(database: Database, tenant_id: str) -> int:
    async with database.tenant(tenant_id) as connection:
        return await agents.count(connection, tenant_id)


async def create_agent(database: Database, tenant_id: str, new: NewAgent) -> AgentDetail:
    """Raises ValidationFailed, also for a model that does not exist, and Conflict."""
    check_name(new.name)
    _check(new)
    try:
        async with database.tenant(tenant_id) as connection:
            model = await _model_of(connection, tenant_id, new) or await _default_model(connection, tenant_id)
            row = _merged(_blank(new.name, model), new, model)
            await agents.add(connection, tenant_id, row)
    except UniqueViolation:
        raise Conflict(f"There is an agent named '{new.name}' already") from None
    except ForeignKeyViolation:
        raise invalid("model", "the model was deleted at this moment") from None
    return _detail(row)


async def change_agent(database: Database, tenant_id: str, name: str, change: AgentChange) -> AgentDetail:
    """Raises ValidationFailed, NotFound, and Conflict for another name."""
    _check(change)
    async with database.tenant(tenant_id) as connection:
        found = await find_agent(connection, tenant_id, name)
        if change.name is not UNSET and change.name != found.name:
            raise Conflict("The name of an agent cannot change")
        row = _merged(found, change, await _model_of(connection, tenant_id, change))
        await agents.change(connection, tenant_id, row)
    return _detail(row)


async def delete_agent(database: Database, tenant_id: str, name: str) -> None:
    """Schemas that begin with the agent keep none."""
    async with database.tenant(tenant_id) as connection:
        row = await find_agent(connection, tenant_id, name)
        if row.is_system:
            raise Forbidden("An agent of the platform cannot be deleted")
        await agents.remove(connection, tenant_id, row.id)


async def find_agent(connection: Connection, tenant_id: str, name: str) -> AgentRow:
    """Raises NotFound."""
    row = await agents.find(connection, tenant_id, *reference(name, "agent"))
    if row is None:
        raise missing("agent", name)
    return row


def _check(fields: AgentFields) -> None:
    if fields.tools:
        check_tools(fields.tools)
    # Neither can exist before their rooms are built.
    if fields.mcp_servers:
        raise invalid("mcp_servers.0", f"there is no MCP server '{fields.mcp_servers[0]}'")
    if fields.knowledge_base_ids:
        raise invalid("knowledge_base_ids.0", f"there is no knowledge base '{fields.knowledge_base_ids[0]}'")


async def _model_of(connection: Connection, tenant_id: str, fields: AgentFields) -> ModelRow | None:
    """The model that the fields name, if they name one."""
    named = next((value for value in (fields.model, fields.model_id) if value not in (UNSET, None, "")), None)
    if named is None:
        return None
    row = await models.find(connection, tenant_id, str(named))
    if row is None:
        raise invalid("model", f"there is no model '{str(named)[:100]}'")
    return _chat_model(row)


async def _default_model(connection: Connection, tenant_id: str) -> ModelRow:
    row = await models.default_chat(connection, tenant_id)
    if row is None:
        raise invalid("model", "name a model, or create a chat model first: it becomes the default")
    return row


def _chat_model(row: ModelRow) -> ModelRow:
    if row.kind != "chat":
        raise invalid(
            "model", f"the model '{row.name}' is of the kind {row.kind}; an agent needs a chat model"
        )
    return row


def _blank(name: str, model: ModelRow) -> AgentRow:
    return AgentRow(
        id=new_id(),
        name=name,
        description="",
        model_id=model.id,
        model=model.name,
        system_prompt="",
        lifecycle="persistent",
        tool_execution="sequential",
        max_steps=50,
        max_context_size=16000,
        max_turn_duration=120,
        temperature=None,
        top_p=None,
        max_tokens=None,
        stop_sequences=[],
        tools=[],
        mcp_servers=[],
        can_spawn=[],
        confirm_before=[],
        knowledge_base_ids=[],
        is_system=False,
        created_at=now(),
        updated_at=now(),
        used_in_schemas=[],
    )


def _merged(row: AgentRow, fields: AgentFields, model: ModelRow | None) -> AgentRow:
    said: dict[str, Any] = {
        name: value for name, value in asdict(fields).items() if name in _PLAIN and value is not UNSET
    }
    for name in _LISTS:
        value = getattr(fields, name)
        if value is not UNSET:
            # Once each, in the order given.
            said[name] = list(dict.fromkeys(value or ()))
    if fields.description is not UNSET:
        said["description"] = fields.description or ""
    for prompt in (fields.system_prompt, fields.system):
        if prompt is not UNSET:
            said["system_prompt"] = prompt or ""
    if model is not None:
        said |= {"model_id": model.id, "model": model.name}
    return replace(row, **said, updated_at=now())


def _summary_fields(row: AgentRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "model": row.model,
        "model_id": row.model_id,
        "lifecycle": row.lifecycle,
        "tools_count": len(row.tools),
        "has_knowledge": bool(row.knowledge_base_ids),
        "is_system": row.is_system,
        "used_in_schemas": row.used_in_schemas,
    }


def _summary(row: AgentRow) -> AgentSummary:
    return AgentSummary(**_summary_fields(row))


def _detail(row: AgentRow) -> AgentDetail:
    return AgentDetail(
        **_summary_fields(row),
        **{name: getattr(row, name) for name in (*_PLAIN[1:], *_LISTS)},
        system=row.system_prompt,
        system_prompt=row.system_prompt,
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
    )
