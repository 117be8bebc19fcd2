"""Removing files that no dataset reads: those that were dropped, and those that a dead process has left."""

import asyncio

import structlog

from weir.context_lake.tables import lake_imports
from weir.context_lake.uploads.storage import INCOMING, Uploads
from weir_shared.db.pool import Database

# A query that began before the change may still open the file.
GRACE_SECONDS = 30.0

log = structlog.get_logger(__name__)


async def collect_dropped_any(
    database: Database, uploads: Uploads, *, seconds: float = GRACE_SECONDS
) -> None:
    """The file first and its row after it: a row without a file is found again, a file without one costs more."""
    async with database.any_tenant() as connection:
        dropped = await lake_imports.find_dropped_any(connection, seconds=seconds)
    if not dropped:
        return
    for row in dropped:
        await asyncio.to_thread(uploads.remove, row.tenant_id, row.file)
    async with database.any_tenant() as connection:
        await lake_imports.forget_any(connection, dropped)
    log.info("uploads removed", files=len(dropped))


async def collect_orphans_any(database: Database, uploads: Uploads) -> None:
    """Files without a row that nobody is writing."""
    files = await asyncio.to_thread(uploads.list)
    async with database.any_tenant() as connection:
        known = await lake_imports.known_any(connection, files)
    for tenant_id, name in sorted(files - known):
        with uploads.claimed(tenant_id, name) as is_free:
            if not is_free:
                continue
            # Looked at again under the lock: its writer may have committed and let go since.
            async with database.any_tenant() as connection:
                if await lake_imports.known_any(connection, {(tenant_id, name)}):
                    continue
            uploads.remove(tenant_id, name)
            log.info("orphaned upload removed", tenant_id=tenant_id, incoming=name.startswith(INCOMING))
