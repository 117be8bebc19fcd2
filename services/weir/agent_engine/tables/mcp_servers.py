"""MCP servers as rows."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from weir_shared.db.pool import Connection, Record


class McpServerRow(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    type: str
    command: str | None
    args: list[str]
    url: str | None
    env_names: list[str]
    env_sealed: bytes | None
    forward_headers: list[str]
    auth_type: str
    auth_key_env: str | None
    auth_token_env: str | None
    auth_client_id: str | None
    enabled: bool
    created_at: datetime
    updated_at: datetime
    agents: list[str] = []
    """Those that use it."""


_SERVERS = """
    select mcp_servers.*,
           array(
               select agents.name from agents
               where agents.tenant_id = mcp_servers.tenant_id
                     and mcp_servers.name = any(agents.mcp_servers)
               order by agents.name
           ) as agents
    from mcp_servers
"""


async def every(connection: Connection, tenant_id: str) -> list[McpServerRow]:
    rows = await connection.fetch(_SERVERS + "where tenant_id = $1 order by name", tenant_id)
    return [_row(row) for row in rows]


async def named(connection: Connection, tenant_id: str, names: Sequence[str]) -> list[McpServerRow]:
    """The servers of these names that exist and are enabled, in the order of the names."""
    rows = await connection.fetch(
        _SERVERS + "where tenant_id = $1 and name = any($2) and enabled order by array_position($2, name)",
        tenant_id,
        list(names),
    )
    return [_row(row) for row in rows]


async def find(connection: Connection, tenant_id: str, name: str, id: str | None) -> McpServerRow | None:
    """A server by its name or its id; locked until the unit of work ends."""
    row = await connection.fetchrow(
        _SERVERS + "where tenant_id = $1 and (name = $2 or id = $3) for update", tenant_id, name, id
    )
    return _row(row) if row else None


async def hold_names(connection: Connection, tenant_id: str) -> dict[str, str]:
    """The name of each server of the tenant, by its id; none of them goes before the unit of work ends."""
    rows = await connection.fetch(
        "select id, name from mcp_servers where tenant_id = $1 order by id for key share", tenant_id
    )
    return {row["id"]: row["name"] for row in rows}


async def add(connection: Connection, tenant_id: str, row: McpServerRow) -> None:
    """Raises UniqueViolation for a name that exists."""
    await connection.execute(
        """
        insert into mcp_servers (
            tenant_id, id, name, type, command, args, url, env_names, env_sealed, forward_headers, auth_type,
            auth_key_env, auth_token_env, auth_client_id, enabled, created_at, updated_at
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
        """,
        tenant_id,
        row.id,
        row.name,
        *_said(row),
        row.created_at,
        row.updated_at,
    )


async def change(connection: Connection, tenant_id: str, row: McpServerRow) -> None:
    await connection.execute(
        """
        update mcp_servers
        set type = $3, command = $4, args = $5, url = $6, env_names = $7, env_sealed = $8, forward_headers = $9,
            auth_type = $10, auth_key_env = $11, auth_token_env = $12, auth_client_id = $13, enabled = $14,
            updated_at = $15
        where tenant_id = $1 and id = $2
        """,
        tenant_id,
        row.id,
        *_said(row),
        row.updated_at,
    )


async def remove(connection: Connection, tenant_id: str, id: str) -> None:
    await connection.execute("delete from mcp_servers where tenant_id = $1 and id = $2", tenant_id, id)


def _said(row: McpServerRow) -> tuple[object, ...]:
    return (
        row.type,
        row.command,
        row.args,
        row.url,
        row.env_names,
        row.env_sealed,
        row.forward_headers,
        row.auth_type,
        row.auth_key_env,
        row.auth_token_env,
        row.auth_client_id,
        row.enabled,
    )


def _row(row: Record) -> McpServerRow:
    fields = dict(row)
    del fields["tenant_id"]
    return McpServerRow(**fields)
