"""Who hands work to whom within a schema, as rows with the names of both agents."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from weir_shared.db.pool import Connection

_RELATIONS = """
    select agent_relations.id, agent_relations.schema_id, agent_relations.source_id, agent_relations.target_id,
           sources.name as source, targets.name as target, agent_relations.config, agent_relations.created_at,
           agent_relations.updated_at
    from agent_relations
    join agents as sources
         on sources.tenant_id = agent_relations.tenant_id and sources.id = agent_relations.source_id
    join agents as targets
         on targets.tenant_id = agent_relations.tenant_id and targets.id = agent_relations.target_id
"""


class RelationRow(Struct, frozen=True, kw_only=True):
    id: str
    schema_id: str
    source_id: str
    target_id: str
    source: str
    target: str
    config: dict[str, Any]
    created_at: datetime
    updated_at: datetime


async def every(connection: Connection, tenant_id: str, schema_id: str) -> list[RelationRow]:
    """The relations of a schema, oldest first."""
    rows = await connection.fetch(
        _RELATIONS
        + """
        where agent_relations.tenant_id = $1 and agent_relations.schema_id = $2
        order by agent_relations.created_at, agent_relations.id
        """,
        tenant_id,
        schema_id,
    )
    return [RelationRow(**dict(row)) for row in rows]


async def find(connection: Connection, tenant_id: str, schema_id: str, id: str) -> RelationRow | None:
    row = await connection.fetchrow(
        _RELATIONS
        + """
        where agent_relations.tenant_id = $1 and agent_relations.schema_id = $2 and agent_relations.id = $3
        """,
        tenant_id,
        schema_id,
        id,
    )
    return RelationRow(**dict(row)) if row else None


async def targets(connection: Connection, tenant_id: str, schema_id: str, source_id: str) -> list[str]:
    """The names of the agents to whom an agent hands work within a schema."""
    rows = await connection.fetch(
        """
        select agents.name from agent_relations
        join agents on agents.tenant_id = agent_relations.tenant_id and agents.id = agent_relations.target_id
        where agent_relations.tenant_id = $1 and agent_relations.schema_id = $2
              and agent_relations.source_id = $3
        order by agents.name
        """,
        tenant_id,
        schema_id,
        source_id,
    )
    return [row["name"] for row in rows]


async def add(connection: Connection, tenant_id: str, row: RelationRow) -> None:
    """Raises UniqueViolation for a pair that exists, ForeignKeyViolation for an agent that is gone."""
    await connection.execute(
        """
        insert into agent_relations (
            tenant_id, id, schema_id, source_id, target_id, config, created_at, updated_at
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        tenant_id,
        row.id,
        row.schema_id,
        row.source_id,
        row.target_id,
        row.config,
        row.created_at,
        row.updated_at,
    )


async def change(connection: Connection, tenant_id: str, row: RelationRow) -> None:
    """Raises UniqueViolation for a pair that exists, ForeignKeyViolation for an agent that is gone."""
    await connection.execute(
        """
        update agent_relations set source_id = $3, target_id = $4, config = $5, updated_at = $6
        where tenant_id = $1 and id = $2
        """,
        tenant_id,
        row.id,
        row.source_id,
        row.target_id,
        row.config,
        row.updated_at,
    )


async def remove(connection: Connection, tenant_id: str, id: str) -> None:
    await connection.execute("delete from agent_relations where tenant_id = $1 and id = $2", tenant_id, id)
