"""What is remembered of a user within a schema, as rows."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from weir_shared.db.pool import Connection


class MemoryRow(Struct, frozen=True, kw_only=True):
    id: str
    schema_id: str
    owner: str
    content: str
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime


async def add(
    connection: Connection,
    tenant_id: str,
    *,
    id: str,
    schema_id: str,
    owner: str,
    content: str,
    metadata: dict[str, str],
    most: int | None,
) -> None:
    """Keeps it, and of the user's entries the newest `most`. One store after the other in a schema, so that is exact."""
    await connection.execute(
        "select from schemas where tenant_id = $1 and id = $2 for no key update", tenant_id, schema_id
    )
    await connection.execute(
        """
        insert into memories (tenant_id, id, schema_id, owner, content, metadata)
        values ($1, $2, $3, $4, $5, $6)
        """,
        tenant_id,
        id,
        schema_id,
        owner,
        content,
        metadata,
    )
    if most is not None:
        await connection.execute(
            """
            delete from memories
            where tenant_id = $1 and id in (
                select id from memories
                where tenant_id = $1 and schema_id = $2 and owner = $3
                order by number desc
                offset $4
            )
            """,
            tenant_id,
            schema_id,
            owner,
            most,
        )


async def search(
    connection: Connection, tenant_id: str, schema_id: str, owner: str, words: Sequence[str], limit: int
) -> list[MemoryRow]:
    """The user's entries that hold every word, in any letter case; newest first."""
    rows = await connection.fetch(
        """
        select id, schema_id, owner, content, metadata, created_at, updated_at from memories
        where tenant_id = $1 and schema_id = $2 and owner = $3 and content ilike all ($4::text[])
        order by number desc
        limit $5
        """,
        tenant_id,
        schema_id,
        owner,
        [f"%{_literal(word)}%" for word in words],
        limit,
    )
    return [MemoryRow(**dict(row)) for row in rows]


async def every(
    connection: Connection, tenant_id: str, schema_id: str, owner: str | None, *, limit: int
) -> list[MemoryRow]:
    """The newest entries of a schema, of everybody's when no owner is named."""
    rows = await connection.fetch(
        """
        select id, schema_id, owner, content, metadata, created_at, updated_at from memories
        where tenant_id = $1 and schema_id = $2 and ($3::text is null or owner = $3)
        order by number desc
        limit $4
        """,
        tenant_id,
        schema_id,
        owner,
        limit,
    )
    return [MemoryRow(**dict(row)) for row in rows]


async def remove(
    connection: Connection, tenant_id: str, schema_id: str, owner: str | None, id: str | None
) -> bool:
    """Whether any went: one entry or, without an id, all of them."""
    gone = await connection.fetch(
        """
        delete from memories
        where tenant_id = $1 and schema_id = $2 and ($3::text is null or owner = $3)
              and ($4::uuid is null or id = $4)
        returning id
        """,
        tenant_id,
        schema_id,
        owner,
        id,
    )
    return bool(gone)


async def remove_any_outlived(connection: Connection) -> None:
    """Entries that are older than an agent of their schema keeps them; the shortest time counts."""
    await connection.execute(
        """
        delete from memories
        using (
            select members.tenant_id, members.schema_id,
                   min((agent_capabilities.config ->> 'retention_days')::int) as days
            from agent_capabilities
            join (
                select tenant_id, id as schema_id, entry_agent_id as agent_id from schemas
                union
                select tenant_id, schema_id, source_id from agent_relations
                union
                select tenant_id, schema_id, target_id from agent_relations
            ) as members
                on members.tenant_id = agent_capabilities.tenant_id
                   and members.agent_id = agent_capabilities.agent_id
            where agent_capabilities.type = 'memory' and agent_capabilities.enabled
                  and not coalesce((agent_capabilities.config ->> 'unlimited_retention')::boolean, false)
                  and coalesce((agent_capabilities.config ->> 'retention_days')::int, 0) > 0
            group by members.tenant_id, members.schema_id
        ) as kept
        where memories.tenant_id = kept.tenant_id and memories.schema_id = kept.schema_id
              and memories.created_at < now() - make_interval(days => kept.days)
        """
    )


def _literal(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
