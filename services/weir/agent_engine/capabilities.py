"""What an agent can do besides its tools: remember, and look things up. One of each type, on or off."""

from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from weir.agent_engine.agents import find_agent
from weir.agent_engine.models.configured import embedder_named
from weir.agent_engine.naming import invalid, missing, refused
from weir.agent_engine.relations import check_config
from weir.agent_engine.tables import agents, capabilities
from weir.agent_engine.tables.capabilities import CapabilityRow
from weir.agent_engine.wire.capabilities import (
    CapabilityChange,
    CapabilityDetail,
    KnowledgeConfig,
    MemoryConfig,
    NewCapability,
)
from weir_shared.clock import now, rfc3339
from weir_shared.db.pool import Connection, Database, UniqueViolation
from weir_shared.errors import Conflict, FieldError
from weir_shared.ids import new_id, parse_uuid
from weir_shared.web.bodies import field_faults

TYPES: dict[str, type[msgspec.Struct]] = {"memory": MemoryConfig, "knowledge": KnowledgeConfig}


async def list_capabilities(database: Database, tenant_id: str, agent: str) -> list[CapabilityDetail]:
    async with database.tenant(tenant_id) as connection:
        found = await find_agent(connection, tenant_id, agent)
        return [_detail(row) for row in await capabilities.every(connection, tenant_id, found.id)]


async def create_capability(
    database: Database, tenant_id: str, agent: str, new: NewCapability
) -> CapabilityDetail:
    """Raises ValidationFailed, NotFound, and Conflict for a second one of its type."""
    if new.type not in TYPES:
        raise invalid("type", f"unknown type '{(new.type or '')[:100]}'; the types are {', '.join(TYPES)}")
    row = CapabilityRow(
        id=new_id(),
        type=new.type,
        config=_without_nulls(new.config or {}),
        enabled=True if new.enabled is None else new.enabled,
        created_at=now(),
        updated_at=now(),
    )
    _check(row)
    try:
        async with database.tenant(tenant_id) as connection:
            found = await find_agent(connection, tenant_id, agent)
            await _check_model(connection, tenant_id, row)
            await capabilities.add(connection, tenant_id, found.id, row)
            await agents.touch(connection, tenant_id, found.id)
    except UniqueViolation:
        raise Conflict(f"The agent has a capability of the type {new.type} already") from None
    return _detail(row)


async def change_capability(
    database: Database, tenant_id: str, agent: str, id: str, change: CapabilityChange
) -> CapabilityDetail:
    """Raises ValidationFailed, NotFound, and Conflict for another type."""
    async with database.tenant(tenant_id) as connection:
        found = await find_agent(connection, tenant_id, agent)
        row = await _find(connection, tenant_id, found.id, id)
        if change.type not in (UNSET, row.type):
            raise Conflict("The type of a capability cannot change")
        if change.config is not UNSET:
            config = {} if change.config is None else _without_nulls(row.config | change.config)
            row = replace(row, config=config)
        if change.enabled is not UNSET:
            row = replace(row, enabled=True if change.enabled is None else change.enabled)
        _check(row)
        await _check_model(connection, tenant_id, row)
        row = replace(row, updated_at=now())
        await capabilities.change(connection, tenant_id, row)
        await agents.touch(connection, tenant_id, found.id)
    return _detail(row)


async def delete_capability(database: Database, tenant_id: str, agent: str, id: str) -> None:
    async with database.tenant(tenant_id) as connection:
        found = await find_agent(connection, tenant_id, agent)
        row = await _find(connection, tenant_id, found.id, id)
        await capabilities.remove(connection, tenant_id, row.id)
        await agents.touch(connection, tenant_id, found.id)


async def _find(connection: Connection, tenant_id: str, agent_id: str, id: str) -> CapabilityRow:
    known = parse_uuid(id)
    row = await capabilities.find(connection, tenant_id, agent_id, known) if known else None
    if row is None:
        raise missing("capability", id)
    return row


def _check(row: CapabilityRow) -> None:
    check_config(row.config)
    faults = field_faults(msgspec.json.encode(row.config), TYPES[row.type])
    if faults:
        raise refused([FieldError(path=f"config.{fault.path}", message=fault.message) for fault in faults])


async def _check_model(connection: Connection, tenant_id: str, row: CapabilityRow) -> None:
    named = row.config.get("embedding_model_id")
    if row.type != "knowledge" or named is None:
        return
    await embedder_named(connection, tenant_id, "config.embedding_model_id", named)


def _without_nulls(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value is not None}


def _detail(row: CapabilityRow) -> CapabilityDetail:
    return CapabilityDetail(
        id=row.id,
        type=row.type,
        config=row.config,
        enabled=row.enabled,
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
    )
