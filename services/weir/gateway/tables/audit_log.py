"""What was done, as rows."""

from datetime import datetime

import msgspec
from msgspec import Struct

from weir_shared.db.pool import Connection


class NewEntry(Struct, frozen=True, kw_only=True):
    """What is known before a request is handed on."""

    actor_type: str
    actor_id: str
    action: str
    method: str
    path: str
    request_id: str
    client_ip: str | None


class EntryRow(NewEntry, frozen=True, kw_only=True):
    """`status_code` is None for a request whose outcome was never learnt.

    `changes` are the fields that its body gave, None where nobody looked.
    """

    id: int
    occurred_at: datetime
    status_code: int | None
    duration_ms: int | None
    changes: list[str] | None


class EntryFilter(Struct, frozen=True, kw_only=True):
    """What the entries of a page have in common; None asks for nothing."""

    actor_type: str | None = None
    actor_id: str | None = None
    action: str | None = None
    resource: str | None = None
    status_code: int | None = None
    made_from: datetime | None = None
    made_to: datetime | None = None


async def add(connection: Connection, tenant_id: str, entry: NewEntry) -> int:
    """The entry's id."""
    id = await connection.fetchval(
        """
        insert into audit_log (tenant_id, actor_type, actor_id, action, method, path, request_id, client_ip)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        returning id
        """,
        tenant_id,
        *msgspec.structs.astuple(entry),
    )
    assert id is not None
    return id


async def complete(
    connection: Connection,
    tenant_id: str,
    id: int,
    *,
    status_code: int,
    duration_ms: int,
    changes: list[str] | None = None,
) -> None:
    """Writes the outcome down, once."""
    await connection.execute(
        """
        update audit_log set status_code = $3, duration_ms = $4, changes = $5
        where tenant_id = $1 and id = $2 and status_code is null
        """,
        tenant_id,
        id,
        status_code,
        duration_ms,
        changes,
    )


async def page(
    connection: Connection, tenant_id: str, wanted: EntryFilter, *, limit: int, offset: int
) -> tuple[list[EntryRow], int]:
    """The entries that pass the filter, newest first, and how many there are in all."""
    filters = msgspec.structs.astuple(wanted)
    total = await connection.fetchval(
        """
        select count(*) from audit_log
        where tenant_id = $1
              and ($2::text is null or actor_type = $2)
              and ($3::text is null or actor_id = $3)
              and ($4::text is null or action = $4)
              and ($5::text is null or method || ' ' || path = $5)
              and ($6::int is null or status_code = $6)
              and ($7::timestamptz is null or occurred_at >= $7)
              and ($8::timestamptz is null or occurred_at <= $8)
        """,
        tenant_id,
        *filters,
    )
    rows = await connection.fetch(
        """
        select id, occurred_at, actor_type, actor_id, action, method, path, request_id, client_ip,
               status_code, duration_ms, changes
        from audit_log
        where tenant_id = $1
              and ($2::text is null or actor_type = $2)
              and ($3::text is null or actor_id = $3)
              and ($4::text is null or action = $4)
              and ($5::text is null or method || ' ' || path = $5)
              and ($6::int is null or status_code = $6)
              and ($7::timestamptz is null or occurred_at >= $7)
              and ($8::timestamptz is null or occurred_at <= $8)
        order by id desc
        limit $9 offset $10
        """,
        tenant_id,
        *filters,
        limit,
        offset,
    )
    return [EntryRow(**dict(row)) for row in rows], total or 0


async def remove_any_older(connection: Connection, *, days: int, limit: int) -> int:
    """Removes entries of any tenant, at most so many; how many there were."""
    rows = await connection.fetch(
        """
        delete from audit_log
        where id = any (array(
            select id from audit_log where occurred_at < now() - make_interval(days => $1) limit $2
        ))
        returning true
        """,
        days,
        limit,
    )
    return len(rows)
