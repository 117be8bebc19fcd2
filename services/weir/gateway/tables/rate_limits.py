"""The rules that limit a tenant's callers, as its administrators have set them."""

from typing import Any

from weir_shared.db.pool import Connection


async def find(connection: Connection, tenant_id: str) -> Any:
    """The value of the setting, or None."""
    return await connection.fetchval(
        "select value from engine_settings where tenant_id = $1 and key = 'rate_limits'", tenant_id
    )
