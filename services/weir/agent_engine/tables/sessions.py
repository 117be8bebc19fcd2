"""Sessions as rows."""

from datetime import datetime
from typing import Any

import msgspec
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
    metadata: dict[str, Any]
    token_scale: float | None = None
    """What its turns have learnt of their model's tokens; looked up for a new turn only."""


class SessionFilter(Struct, frozen=True, kw_only=True):
    """What the sessions of a page have in common; None asks for nothing."""

    owner: str | None = None
    agent: str | None = None
    schema: str | None = None
    status: str | None = None
    user_sub: str | None = None
    begun_from: datetime | None = None
    begun_to: datetime | None = None


async def find(connection: Connection, tenant_id: str, id: str) -> SessionRow | None:
    row = await connection.fetchrow(
        """
        select id, owner, schema_id, schema_name, agent, title, status, created_at, updated_at, metadata,
               (
                   select count(*) from messages
                   where messages.tenant_id = sessions.tenant_id and messages.session_id = sessions.id
                         and messages.event_type in ('user_message', 'assistant_message')
                         and messages.sub_agent_id is null
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
        select id, owner, schema_id, schema_name, agent, title, status, created_at, updated_at, metadata,
               0 as message_count,
               (
                   select token_scale from turns
                   where turns.tenant_id = sessions.tenant_id and turns.session_id = sessions.id
                         and token_scale is not null
                   order by number desc
                   limit 1
               ) as token_scale
        from sessions
        where tenant_id = $1 and id = $2
        for update
        """,
        tenant_id,
        id,
    )
    return SessionRow(**dict(row)) if row else None


async def page(
    connection: Connection, tenant_id: str, wanted: SessionFilter, *, limit: int, offset: int
) -> tuple[list[SessionRow], int]:
    """The sessions that pass the filter, last used first, and how many there are in all."""
    filters = msgspec.structs.astuple(wanted)
    total = await connection.fetchval(
        """
        select count(*) from sessions
        where tenant_id = $1
              and ($2::text is null or owner = $2)
              and ($3::text is null or agent = $3)
              and ($4::text is null or schema_name = $4)
              and ($5::text is null or status = $5)
              and ($6::text is null or substring(owner from position(':' in owner) + 1) = $6)
              and ($7::timestamptz is null or created_at >= $7)
              and ($8::timestamptz is null or created_at <= $8)
        """,
        tenant_id,
        *filters,
    )
    rows = await connection.fetch(
        """
        select id, owner, schema_id, schema_name, agent, title, status, created_at, updated_at, metadata,
               (
                   select count(*) from messages
                   where messages.tenant_id = sessions.tenant_id and messages.session_id = sessions.id
                         and messages.event_type in ('user_message', 'assistant_message')
                         and messages.sub_agent_id is null
               ) as message_count
        from sessions
        where tenant_id = $1
              and ($2::text is null or owner = $2)
              and ($3::text is null or agent = $3)
              and ($4::text is null or schema_name = $4)
              and ($5::text is null or status = $5)
              and ($6::text is null or substring(owner from position(':' in owner) + 1) = $6)
              and ($7::timestamptz is null or created_at >= $7)
              and ($8::timestamptz is null or created_at <= $8)
        order by updated_at desc, id
        limit $9 offset $10
        """,
        tenant_id,
        *filters,
        limit,
        offset,
    )
    return [SessionRow(**dict(row)) for row in rows], total or 0


async def add(
    connection: Connection,
    tenant_id: str,
    *,
    id: str,
    owner: str,
    schema_id: str | None,
    schema_name: str,
    agent: str,
    title: str,
    metadata: dict[str, Any],
) -> bool:
    """Whether the session is new; False, and nothing done, when its id is taken."""
    return bool(
        await connection.fetchval(
            """
            insert into sessions (tenant_id, id, owner, schema_id, schema_name, agent, title, metadata)
            values ($1, $2, $3, $4, $5, $6, $7, $8)
            on conflict (tenant_id, id) do nothing
            returning true
            """,
            tenant_id,
            id,
            owner,
            schema_id,
            schema_name,
            agent,
            title,
            metadata,
        )
    )


async def change(
    connection: Connection,
    tenant_id: str,
    id: str,
    *,
    title: str | None,
    status: str | None,
    metadata: dict[str, Any] | None,
) -> None:
    """What is None stays; nothing at all is no use of the session either."""
    await connection.execute(
        """
        update sessions
        set title = coalesce($3, title), status = coalesce($4, status), metadata = coalesce($5, metadata),
            updated_at = now()
        where tenant_id = $1 and id = $2 and ($3::text is not null or $4::text is not null or $5::jsonb is not null)
        """,
        tenant_id,
        id,
        title,
        status,
        metadata,
    )


async def remove(connection: Connection, tenant_id: str, id: str) -> None:
    """Its turns and messages go with it."""
    await connection.execute("delete from sessions where tenant_id = $1 and id = $2", tenant_id, id)
