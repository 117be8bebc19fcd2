"""What a tenant's administrators decide about the engine while it runs; the next request sees it."""

from contextlib import suppress
from typing import Any

from weir.agent_engine.setting_rules import RATE_LIMITS, check_value, checked_key
from weir.agent_engine.tables import settings
from weir.agent_engine.tables.settings import SettingRow
from weir.agent_engine.wire.settings import SettingDetail
from weir_shared.clock import rfc3339
from weir_shared.db.pool import Database
from weir_shared.errors import NotFound, ValidationFailed
from weir_shared.queue.doorbell import Doorbell
from weir_shared.rate_limits import CHANGES


async def list_settings(database: Database, tenant_id: str) -> list[SettingDetail]:
    async with database.tenant(tenant_id) as connection:
        return [_detail(row) for row in await settings.every(connection, tenant_id)]


async def read_setting(database: Database, tenant_id: str, key: str) -> SettingDetail:
    """Raises NotFound for one that nobody set."""
    row = None
    with suppress(ValidationFailed):
        key = checked_key(key)
        async with database.tenant(tenant_id) as connection:
            row = await settings.find(connection, tenant_id, key)
    if row is None:
        raise NotFound(f"There is no setting '{key[:200]}'")
    return _detail(row)


async def put_setting(
    database: Database, doorbell: Doorbell, tenant_id: str, key: str, value: Any
) -> SettingDetail:
    """Sets it, whether or not it was set before. Raises ValidationFailed."""
    key = checked_key(key)
    check_value(key, value)
    async with database.tenant(tenant_id) as connection:
        row = await settings.put(connection, tenant_id, key, value)
    if key == RATE_LIMITS:
        await doorbell.notify(CHANGES)
    return _detail(row)


def _detail(row: SettingRow) -> SettingDetail:
    return SettingDetail(key=row.key, value=row.value, updated_at=rfc3339(row.updated_at))
