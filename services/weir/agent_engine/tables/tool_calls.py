"""The calls of tools as rows; triggers of `messages` and `turns` write them (migration 0066)."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from weir_shared.db.pool import Connection


class ToolCallRow(Struct, frozen=True, kw_only=True):
    id: int
    session_id: str | None
    turn_id: str
    call_id: str | None
    owner: str
    agent: str
    tool: str
    input: dict[str, Any]
    output: str
    status: str
    duration_ms: int | None
    created_at: datetime


class ToolCallFilter(Struct, frozen=True, kw_only=True):
    """What the calls of a page have in common; None asks for nothing."""

    session_id: str | None = None
    agent: str | None = None
    tool: str | None = None
    status: str | None = None
    user_id: str | None = None
    made_from: datetime | None = None
    made_to: datetime | None = None


async def page(
    connection: Connection, tenant_id: str, wanted: ToolCallFilter, *, limit: int, offset: int
) -> tuple[list[ToolCallRow], int]:
    """The calls that pass the filter, newest first, and how many there are in all."""
    filters = msgspec.structs.astuple(wanted)
    total = await connection.fetchval(
        """
        select count(*) from tool_calls
        where tenant_id = $1
              and ($2::uuid is null or session_id = $2)
              and ($3::text is null or agent = $3)
              and ($4::text is null or tool = $4)
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
        select id, session_id, turn_id, call_id, owner, agent, tool, input, output, status, duration_ms, created_at
        from tool_calls
        where tenant_id = $1
              and ($2::uuid is null or session_id = $2)
              and ($3::text is null or agent = $3)
              and ($4::text is null or tool = $4)
              and ($5::text is null or status = $5)
              and ($6::text is null or substring(owner from position(':' in owner) + 1) = $6)
              and ($7::timestamptz is null or created_at >= $7)
              and ($8::timestamptz is null or created_at <= $8)
        order by id desc
        limit $9 offset $10
        """,
        tenant_id,
        *filters,
        limit,
        offset,
    )
    return [ToolCallRow(**dict(row)) for row in rows], total or 0


async def remove_any_older(connection: Connection, *, days: int, limit: int) -> int:
    """Removes calls of any tenant, at most so many; how many there were."""
    rows = await connection.fetch(
        """
        delete from tool_calls
        where id = any (array(
            select id from tool_calls where created_at < now() - make_interval(days => $1) limit $2
        ))
        returning true
        """,
        days,
        limit,
    )
    return len(rows)
