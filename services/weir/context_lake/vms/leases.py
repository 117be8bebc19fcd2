"""Leases on a runtime's row, held by one worker and renewed while it lives: a dead one's lapse in seconds."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import structlog

from weir.context_lake.tables import lake_vms
from weir_shared.db.pool import Database, DatabaseUnavailable

# How long a runtime stays as a worker left it that was killed; the row's own clock counts, the database's.
LEASE_SECONDS = 6.0
RENEW_SECONDS = 1.5

log = structlog.get_logger(__name__)


@asynccontextmanager
async def renewed(database: Database, tenant_id: str, epoch: int, owner: str) -> AsyncGenerator[None, None]:
    """Keeps a lease for as long as the block lasts, unless somebody else has taken it by then."""
    task = asyncio.create_task(_renew(database, tenant_id, epoch, owner))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _renew(database: Database, tenant_id: str, epoch: int, owner: str) -> None:
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        try:
            async with database.tenant(tenant_id) as connection:
                is_mine = await lake_vms.extend_lease(
                    connection, tenant_id, epoch, owner, seconds=LEASE_SECONDS
                )
        except DatabaseUnavailable:
            continue
        if not is_mine:
            log.warning("lease lost", tenant_id=tenant_id, epoch=epoch)
            return
