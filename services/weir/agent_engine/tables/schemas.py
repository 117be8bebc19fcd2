"""Schemas as rows, with the name of their entry agent and of all their members."""

from datetime import datetime

from msgspec import Struct

from weir_shared.db.pool import Connection, Record


class SchemaRow(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    description: str
    entry_agent_id: str | None
    entry_agent: str | None
    chat_enabled: bool
    chat_last_fired_at: datetime | None
    is_system: bool
    created_at: datetime
    updated_at: datetime
    members: list[str] = []
    """The entry agent and both ends of every relation, by name."""


_SCHEMAS = """
    select schemas.*, agents.name as entry_agent,
           (
               select max(sessions.created_at) from sessions
               where sessions.tenant_id = schemas.tenant_id and sessions.schema_id = schemas.id
           ) as chat_last_fired_at,
           array(
               select members.name from agents as members
               where members.tenant_id = schemas.tenant_id
                     and (
                         members.id = schemas.entry_agent_id
                         or exists (
                             select from agent_relations
                             where agent_relations.tenant_id = schemas.tenant_id
                                   and agent_relations.schema_id = schemas.id
                                   and members.id in (agent_relations.source_id, agent_relations.target_id)
                         )
                     )
               order by members.name
           ) as members
    from schemas
    left join agents on agents.tenant_id = schemas.tenant_id and agents.id = schemas.entry_agent_id
"""


async def every(connection: Connection, tenant_id: str) -> list[SchemaRow]:
    rows = await connection.fetch(
        _SCHEMAS + "where schemas.tenant_id = $1 order by schemas.created_at, schemas.name", tenant_id
    )
    return [_row(row) for row in rows]


async def find(connection: Connection, tenant_id: str, name: str, id: str | None) -> SchemaRow | None:
    """A schema by its name or its id; locked until the unit of work ends."""
    row = await connection.fetchrow(
        _SCHEMAS
        + """
        where schemas.tenant_id = $1 and (schemas.name = $2 or schemas.id = $3)
        for no key update of schemas
        """,
        tenant_id,
        name,
        id,
    )
    return _row(row) if row else None


async def lock_every(connection: Connection, tenant_id: str) -> None:
    """Locks the tenant's schemas, always in one order: who changes one locks it before its agents."""
    await connection.execute(
        "select from schemas where tenant_id = $1 order by id for no key update", tenant_id
    )


async def add(connection: Connection, tenant_id: str, row: SchemaRow) -> None:
    """Raises UniqueViolation for a name that exists, ForeignKeyViolation for an entry agent that is gone."""
    await connection.execute(
        """
        insert into schemas (
            tenant_id, id, name, description, entry_agent_id, chat_enabled, created_at, updated_at
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        tenant_id,
        row.id,
        row.name,
        row.description,
        row.entry_agent_id,
        row.chat_enabled,
        row.created_at,
        row.updated_at,
    )


async def change(connection: Connection, tenant_id: str, row: SchemaRow) -> None:
    """Raises ForeignKeyViolation for an entry agent that is gone."""
    await connection.execute(
        """
        update schemas
        set description = $3, entry_agent_id = $4, chat_enabled = $5, updated_at = $6
        where tenant_id = $1 and id = $2
        """,
        tenant_id,
        row.id,
        row.description,
        row.entry_agent_id,
        row.chat_enabled,
        row.updated_at,
    )


async def remove(connection: Connection, tenant_id: str, id: str) -> None:
    await connection.execute("delete from schemas where tenant_id = $1 and id = $2", tenant_id, id)


def _row(row: Record) -> SchemaRow:
    fields = dict(row)
    del fields["tenant_id"]
    return SchemaRow(**fields)
