"""Sessions as rows."""

from datetime import datetime

from msgspec import Struct

from weir_shared.db.pool import Connection


class SessionRow(Struct, frozen=True, kw_only=True):
    id: str
    owner: str
    schema_id: str | None
    schema_name: str
    agent: str
    title: str
    status: str
    created_at: datetime
    updated_at: datetime
    message_count: int


async def find(connection: Connection, tenant_id: str, id: str) -> SessionRow | None:
    row = await connection.fetchrow(
        """
        select id, owner, schema_id, schema_name, agent, title, status, created_at, updated_at,
               (
                   select count(*) from messages
                   where messages.tenant_id = sessions.tenant_id and messages.session_id = sessions.id
                         and messages.event_type in ('user_message', 'assistant_message')
               ) as message_count
        from sessions
        where tenant_id = $1 and id = $2
        """,
        tenant_id,
        id,
    )
    return SessionRow(**dict(row)) if row else None


async def lock(connection: Connection, tenant_id: str, id: str) -> SessionRow | None:
    """The session, kept from other turns until the unit of work ends; its messages are not counted."""
    row = await connection.fetchrow(
        """
        select id, owner, schema_id, schema_name, agent, title, status, created_at, updated_at,
               0 as message_count
        from sessions
        where tenant_id = $1 and id = $2
        for update
        """,
        tenant_id,
        id,
    )
    return SessionRow(**dict(row)) if row else None


async def page(
    connection: Connection,
    tenant_id: str,
    *,
    owner: str | None,
    agent: str | None,
    schema: str | None,
    status: str | None,
    limit: int,
    offset: int,
) -> tuple[list[SessionRow], int]:
    """The sessions that pass every filter that is not None, last used first, and how many there are in all."""
    total = await connection.fetchval(
        """
        select count(*) from sessions
        where tenant_id = $1
              and ($2::text is null or owner = $2)
              and ($3::text is null or agent = $3)
              and ($4::text is null or schema_name = $4)
              and ($5::text is null or status = $5)
        """,
        tenant_id,
        owner,
        agent,
        schema,
        status,
    )
    rows = await connection.fetch(
        """
        select id, owner, schema_id, schema_name, agent, title, status, created_at, updated_at,
               (
                   select count(*) from messages
                   where messages.tenant_id = sessions.tenant_id and messages.session_id = sessions.id
                         and messages.event_type in ('user_message', 'assistant_message')
               ) as message_count
        from sessions
        where tenant_id = $1
              and ($2::text is null or owner = $2)
              and ($3::text is null or agent = $3)
              and ($4::text is null or schema_name = $4)
              and ($5::text is null or status = $5)
        order by updated_at desc, id
        limit $6 offset $7
        """,
        tenant_id,
        owner,
        agent,
        schema,
        status,
        limit,
        offset,
    )
    return [SessionRow(**dict(row)) for row in rows], total or 0


async def remove(connection: Connection, tenant_id: str, id: str) -> None:
    """Its turns and messages go with it."""
    await connection.execute("delete from sessions where tenant_id = $1 and id = $2", tenant_id, id)
