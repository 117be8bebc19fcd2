"""Rounds around the queues: those that nobody needs any more are deleted, policies narrowed, old events forgotten."""

import structlog

from weir.context_lake import measures
from weir.context_lake.notifications.provisioning import wanted_of
from weir.context_lake.notifications.queues import Queues, QueueServiceFailed
from weir.context_lake.tables import lake_event_ledger, lake_notifications, lake_queue_removals
from weir_shared.db.pool import Database

RETRY_SECONDS = 120.0
AT_ONCE = 20

log = structlog.get_logger(__name__)


async def remove_queues_any(database: Database, queues: Queues) -> None:
    """Deletes queues whose grace is over. One that stays is tried again, later and later."""
    async with database.any_tenant() as connection:
        due = await lake_queue_removals.claim_due_any(connection, retry_seconds=RETRY_SECONDS, most=AT_ONCE)
    for removal in due:
        try:
            await queues.remove(removal.region, removal.queue_name)
        except QueueServiceFailed as fault:
            log.warning("queue not deleted", queue=removal.queue_name, reason=str(fault))
            continue
        async with database.tenant(removal.tenant_id) as connection:
            await lake_queue_removals.take_back(
                connection, removal.tenant_id, removal.queue_name, removal.region
            )


async def narrow_policies_any(database: Database, queues: Queues) -> None:
    """Lets only the bucket of now send to a queue whose dataset has moved from another one."""
    async with database.any_tenant() as connection:
        wide = await lake_notifications.list_wide_any(connection)
    for item in wide:
        try:
            await queues.ensure(wanted_of(item))
        except QueueServiceFailed as fault:
            log.warning("policy not narrowed", dataset=item.name, reason=str(fault))
            continue
        async with database.tenant(item.tenant_id) as connection:
            await lake_notifications.note_narrow(connection, item.tenant_id, item.id, item.bucket)


async def forget_events_any(database: Database) -> None:
    async with database.any_tenant() as connection:
        await lake_event_ledger.forget_old_any(connection)
        await lake_event_ledger.forget_strays_any(connection)
        measures.SQS_DEAD.set(await lake_notifications.sum_dead_any(connection))
