"""Tools that are HTTP requests, as rows."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from weir_shared.db.pool import Connection


class HttpToolRow(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    description: str
    config: dict[str, Any]
    secret_names: list[str]
    secrets_sealed: bytes | None
    confirmation_required: bool
    created_at: datetime
    updated_at: datetime


_TOOLS = """
    select id, name, description, config, secret_names, secrets_sealed, confirmation_required, created_at, updated_at
    from http_tools
"""


async def every(connection: Connection, tenant_id: str) -> list[HttpToolRow]:
    rows = await connection.fetch(_TOOLS + "where tenant_id = $1 order by name", tenant_id)
    return [HttpToolRow(**dict(row)) for row in rows]


async def named(connection: Connection, tenant_id: str, names: Sequence[str]) -> list[HttpToolRow]:
    """Those of these names that exist, in the order of the names."""
    rows = await connection.fetch(
        _TOOLS + "where tenant_id = $1 and name = any($2) order by array_position($2, name)",
        tenant_id,
        list(names),
    )
    return [HttpToolRow(**dict(row)) for row in rows]


async def find(connection: Connection, tenant_id: str, name: str) -> HttpToolRow | None:
    """One tool; locked until the unit of work ends."""
    row = await connection.fetchrow(
        _TOOLS + "where tenant_id = $1 and name = $2 for no key update", tenant_id, name
    )
    return HttpToolRow(**dict(row)) if row else None


async def names(connection: Connection, tenant_id: str) -> list[str]:
    rows = await connection.fetch("select name from http_tools where tenant_id = $1", tenant_id)
    return [row["name"] for row in rows]


async def add(connection: Connection, tenant_id: str, row: HttpToolRow) -> None:
    """Raises UniqueViolation for a name that exists."""
    await connection.execute(
        """
        insert into http_tools (
            tenant_id, id, name, description, config, secret_names, secrets_sealed, confirmation_required,
            created_at, updated_at
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        """,
        tenant_id,
        row.id,
        row.name,
        row.description,
        row.config,
        row.secret_names,
        row.secrets_sealed,
        row.confirmation_required,
        row.created_at,
        row.updated_at,
    )


async def change(connection: Connection, tenant_id: str, row: HttpToolRow) -> None:
    await connection.execute(
        """
        update http_tools
        set description = $3, config = $4, secret_names = $5, secrets_sealed = $6, confirmation_required = $7,
            updated_at = $8
        where tenant_id = $1 and id = $2
        """,
        tenant_id,
        row.id,
        row.description,
        row.config,
        row.secret_names,
        row.secrets_sealed,
        row.confirmation_required,
        row.updated_at,
    )
