"""What an agent can do besides its tools, as rows: one of each type."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from weir_shared.db.pool import Connection


class CapabilityRow(Struct, frozen=True, kw_only=True):
    id: str
    type: str
    config: dict[str, Any]
    enabled: bool
    created_at: datetime
    updated_at: datetime


async def every(connection: Connection, tenant_id: str, agent_id: str) -> list[CapabilityRow]:
    """The capabilities of an agent, oldest first."""
    rows = await connection.fetch(
        """
        select id, type, config, enabled, created_at, updated_at from agent_capabilities
        where tenant_id = $1 and agent_id = $2
        order by created_at, type
        """,
        tenant_id,
        agent_id,
    )
    return [CapabilityRow(**dict(row)) for row in rows]


async def find(connection: Connection, tenant_id: str, agent_id: str, id: str) -> CapabilityRow | None:
    """One capability; locked until the unit of work ends."""
    row = await connection.fetchrow(
        """
        select id, type, config, enabled, created_at, updated_at from agent_capabilities
        where tenant_id = $1 and agent_id = $2 and id = $3
        for no key update
        """,
        tenant_id,
        agent_id,
        id,
    )
    return CapabilityRow(**dict(row)) if row else None


async def add(connection: Connection, tenant_id: str, agent_id: str, row: CapabilityRow) -> None:
    """Raises UniqueViolation for a second one of its type."""
    await connection.execute(
        """
        insert into agent_capabilities (
            tenant_id, id, agent_id, type, config, enabled, created_at, updated_at
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        tenant_id,
        row.id,
        agent_id,
        row.type,
        row.config,
        row.enabled,
        row.created_at,
        row.updated_at,
    )


async def change(connection: Connection, tenant_id: str, row: CapabilityRow) -> None:
    await connection.execute(
        """
        update agent_capabilities set config = $3, enabled = $4, updated_at = $5
        where tenant_id = $1 and id = $2
        """,
        tenant_id,
        row.id,
        row.config,
        row.enabled,
        row.updated_at,
    )


async def remove(connection: Connection, tenant_id: str, id: str) -> None:
    await connection.execute("delete from agent_capabilities where tenant_id = $1 and id = $2", tenant_id, id)
