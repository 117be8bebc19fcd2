"""A tenant's settings of the engine as rows: a key and any JSON."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from weir_shared.db.pool import Connection


class SettingRow(Struct, frozen=True):
    key: str
    value: Any
    updated_at: datetime


async def value(connection: Connection, tenant_id: str, key: str) -> Any:
    """The value of a setting, or None for one that nobody set."""
    return await connection.fetchval(
        "select value from engine_settings where tenant_id = $1 and key = $2", tenant_id, key
    )


async def every(connection: Connection, tenant_id: str) -> list[SettingRow]:
    rows = await connection.fetch(
        "select key, value, updated_at from engine_settings where tenant_id = $1 order by key", tenant_id
    )
    return [SettingRow(*row) for row in rows]


async def find(connection: Connection, tenant_id: str, key: str) -> SettingRow | None:
    row = await connection.fetchrow(
        "select key, value, updated_at from engine_settings where tenant_id = $1 and key = $2", tenant_id, key
    )
    return SettingRow(*row) if row else None


async def put(connection: Connection, tenant_id: str, key: str, value: Any) -> SettingRow:
    row = await connection.fetchrow(
        """
        insert into engine_settings (tenant_id, key, value)
        values ($1, $2, coalesce($3, 'null'::jsonb))
        on conflict (tenant_id, key) do update set value = excluded.value, updated_at = now()
        returning key, value, updated_at
        """,
        tenant_id,
        key,
        value,
    )
    assert row is not None
    return SettingRow(*row)
