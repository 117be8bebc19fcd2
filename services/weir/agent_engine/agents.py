"""The agents that a tenant has configured: create, read, merge, delete."""

from typing import Any, TypeVar

from msgspec import UNSET
from msgspec.structs import replace

from weir.agent_engine.naming import Faults, check_name, invalid, missing, reference, unknown
from weir.agent_engine.tables import agents, http_tools, knowledge, mcp_servers, models, schemas
from weir.agent_engine.tables.agents import AgentRow
from weir.agent_engine.tables.models import ModelRow
from weir.agent_engine.tools.names import check_tools, tools_of
from weir.agent_engine.wire.agents import AgentChange, AgentDetail, AgentFields, AgentSummary, NewAgent
from weir_shared.clock import now, rfc3339
from weir_shared.db.pool import Connection, Database, ForeignKeyViolation, UniqueViolation
from weir_shared.errors import Conflict, Forbidden
from weir_shared.ids import new_id, parse_uuid

_LISTS = ("stop_sequences", "tools", "mcp_servers", "can_spawn", "confirm_before", "knowledge_base_ids")
_Said = TypeVar("_Said", NewAgent, AgentChange)
_DEFAULTS: dict[str, Any] = {
    "lifecycle": "persistent",
    "tool_execution": "sequential",
    "max_steps": 50,
    "max_context_size": 16000,
    "max_turn_duration": 120,
    "temperature": None,
    "top_p": None,
    "max_tokens": None,
}


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
    faults = Faults()
    with faults.gathered():
        check_name(new.name)
    try:
        async with database.tenant(tenant_id) as connection:
            with faults.gathered():
                new = await _checked(connection, tenant_id, new, new.name)
            model = None
            with faults.gathered():
                model = await _model_of(connection, tenant_id, new) or await default_model(
                    connection, tenant_id
                )
            faults.raise_any()
            assert model is not None
            row = _merged(blank_agent(new.name, model), new, model)
            await agents.add(connection, tenant_id, row)
            return _detail(await find_agent(connection, tenant_id, row.id))
    except UniqueViolation:
        raise Conflict(f"There is an agent named '{new.name}' already") from None
    except ForeignKeyViolation:
        raise invalid("model", "the model was deleted at this moment") from None


async def change_agent(database: Database, tenant_id: str, name: str, change: AgentChange) -> AgentDetail:
    """Raises ValidationFailed, NotFound, and Conflict for another name."""
    faults = Faults()
    async with database.tenant(tenant_id) as connection:
        found = await find_agent(connection, tenant_id, name)
        if change.name is not UNSET and change.name != found.name:
            raise Conflict("The name of an agent cannot change")
        with faults.gathered():
            change = await _checked(connection, tenant_id, change, found.name)
        model = None
        with faults.gathered():
            model = await _model_of(connection, tenant_id, change, found)
        faults.raise_any()
        await agents.change(connection, tenant_id, _merged(found, change, model))
        return _detail(await find_agent(connection, tenant_id, found.id))


async def delete_agent(database: Database, tenant_id: str, name: str) -> None:
    """Its relations go with it, and schemas that begin with it keep no entry agent."""
    async with database.tenant(tenant_id) as connection:
        await schemas.lock_every(connection, tenant_id)
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


async def _checked(connection: Connection, tenant_id: str, fields: _Said, own: str) -> _Said:
    """The fields of the agent of that name, with names for ids. Raises ValidationFailed with everything that they refer to in vain."""
    faults = Faults()
    with faults.gathered():
        check_tools(fields.tools or [], await http_tools.names(connection, tenant_id) if fields.tools else ())
    if fields.mcp_servers:
        with faults.gathered():
            known = await mcp_servers.hold_names(connection, tenant_id)
            named = _names("mcp_servers", "MCP server", fields.mcp_servers, known)
            fields = replace(fields, mcp_servers=named)
    if fields.knowledge_base_ids:
        with faults.gathered():
            known = await knowledge.hold_names(connection, tenant_id)
            named = _names("knowledge_base_ids", "knowledge base", fields.knowledge_base_ids, known)
            fields = replace(fields, knowledge_base_ids=named)
    if fields.can_spawn:
        with faults.gathered():
            fields = replace(fields, can_spawn=await _spawned(connection, tenant_id, fields.can_spawn, own))
    faults.raise_any()
    return fields


def _names(path: str, kind: str, texts: list[str], known: dict[str, str]) -> list[str]:
    """Things by name, whether they are named or given by id; `known` are the names by id."""
    names = set(known.values())
    faults = Faults()
    found: list[str] = []
    for position, text in enumerate(texts):
        name = text if text in names else known.get(parse_uuid(text) or "")
        with faults.gathered():
            if name is None:
                raise unknown(f"{path}.{position}", kind, text, names)
            found.append(name)
    faults.raise_any()
    return found


async def _spawned(connection: Connection, tenant_id: str, named: list[str], own: str) -> list[str]:
    """Agents by name, but not the agent itself. A name may be one of an agent to come; an id may not."""
    known = await agents.names(connection, tenant_id)
    faults = Faults()
    spawned: list[str] = []
    for position, text in enumerate(named):
        path = f"can_spawn.{position}"
        id = parse_uuid(text)
        with faults.gathered():
            if id is not None and id not in known:
                raise unknown(path, "agent", text, ())
            if id is None:
                check_name(text, path=path)
            name = known[id] if id else text
            if name == own:
                raise invalid(path, "an agent hands no work to itself")
            spawned.append(name)
    faults.raise_any()
    return spawned


async def _model_of(
    connection: Connection, tenant_id: str, fields: AgentFields, row: AgentRow | None = None
) -> ModelRow | None:
    """The model that the fields name, if they name one that the agent does not have; null means the default.

    Of `model` and `model_id` the one that says something new counts: a client may send back what it has read.
    """
    had = ("", row.model, str(row.model_id)) if row else ("",)
    said = [value for value in (fields.model, fields.model_id) if value is not UNSET]
    new = next((str(value) for value in said if value is not None and str(value) not in had), None)
    if new is None:
        return await default_model(connection, tenant_id) if None in said else None
    found = await models.find(connection, tenant_id, new)
    if found is None:
        raise unknown("model", "model", new, await models.names(connection, tenant_id))
    return _chat_model(found)


async def default_model(connection: Connection, tenant_id: str) -> ModelRow:
    """Raises ValidationFailed when the tenant has none."""
    row = await models.default(connection, tenant_id, "chat")
    if row is None:
        raise invalid("model", "name a model, or create a chat model first: it becomes the default")
    return row


def _chat_model(row: ModelRow) -> ModelRow:
    if row.kind != "chat":
        raise invalid(
            "model", f"the model '{row.name}' is of the kind {row.kind}; an agent needs a chat model"
        )
    return row


def blank_agent(name: str, model: ModelRow) -> AgentRow:
    """An agent of whom nothing is said yet."""
    return AgentRow(
        id=new_id(),
        name=name,
        description="",
        model_id=model.id,
        model=model.name,
        system_prompt="",
        **_DEFAULTS,
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
    said: dict[str, Any] = {}
    for name, default in _DEFAULTS.items():
        value = getattr(fields, name)
        if value is not UNSET:
            said[name] = default if value is None else value
    for name in _LISTS:
        value = getattr(fields, name)
        if value is not UNSET:
            # Once each, in the order given.
            said[name] = list(dict.fromkeys(value or ()))
    if fields.description is not UNSET:
        said["description"] = fields.description or ""
    prompts = [prompt or "" for prompt in (fields.system, fields.system_prompt) if prompt is not UNSET]
    # As with the model: what a client only sends back as it has read it does not undo the other word for it.
    for prompt in prompts:
        if prompt != row.system_prompt:
            said["system_prompt"] = prompt
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
        "tools_count": len(tools_of(row.tools, row.capabilities, row.spawnable)),
        "has_knowledge": "knowledge" in row.capabilities and bool(row.knowledge_base_ids),
        "is_system": row.is_system,
        "used_in_schemas": row.used_in_schemas,
    }


def _summary(row: AgentRow) -> AgentSummary:
    return AgentSummary(**_summary_fields(row))


def _detail(row: AgentRow) -> AgentDetail:
    return AgentDetail(
        **_summary_fields(row),
        **{name: getattr(row, name) for name in (*list(_DEFAULTS)[1:], *_LISTS)},
        system=row.system_prompt,
        system_prompt=row.system_prompt,
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
    )
