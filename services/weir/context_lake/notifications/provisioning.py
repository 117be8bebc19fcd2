"""Queues for the datasets that a change gives notifications: made before the change is kept, taken back after it.

Before a queue is made its removal is written down, and the change that uses it takes that back in its own
transaction: whatever dies in between leaves no queue that nobody knows.
"""

import asyncio
import uuid
from collections.abc import Mapping
from datetime import timedelta

from msgspec import Struct, field
from msgspec.structs import replace

from weir.context_lake import names
from weir.context_lake.connectors.files import format_of
from weir.context_lake.connectors.s3 import DEFAULT_REGION
from weir.context_lake.document import Dataset, Document
from weir.context_lake.notifications.queues import Queues, QueueServiceFailed, Wanted, name_of
from weir.context_lake.tables import lake_notifications, lake_queue_removals
from weir.context_lake.tables.lake_notifications import Notification, Queue
from weir_shared.db.pool import Connection, Database
from weir_shared.errors import BadGateway

# So long a queue outlives its dataset: what is in it can still be looked at, and a change can be taken back.
GRACE = timedelta(hours=24)
UNUSED_GRACE = timedelta(hours=1)
SECONDS = 40
AT_ONCE = 8


class ProvisioningFailed(BadGateway):
    code = "notification_provisioning_failed"


class Prepared(Struct, frozen=True, kw_only=True):
    """What a change means for queues: to be written down with it."""

    kept: list[Notification] = []
    off: list[Notification] = []
    gone: list[Notification] = []
    moved: list[Notification] = []
    """As they were before their datasets went to another region."""
    queues: Mapping[str, Queue] = field(default_factory=dict[str, Queue])
    """Of every dataset that has notifications, by the key of its name."""


NOTHING = Prepared()


class Provisioning:
    """The queues of one change of a lake, which may be planned more than once."""

    def __init__(self, database: Database, queues: Queues, tenant_id: str) -> None:
        self._database = database
        self._queues = queues
        self._tenant_id = tenant_id
        self._fresh: dict[str, str] = {}

    async def prepare(self, before: Document, after: Document, *, is_trial: bool) -> Prepared:
        """Makes the queues that are missing, unless the change is only tried. Raises ProvisioningFailed."""
        # A dataset that goes may have had notifications once.
        goes = {_key(item) for item in before.datasets} - {_key(item) for item in after.datasets}
        if not goes and not any(item.notifications for item in (*before.datasets, *after.datasets)):
            return NOTHING
        async with self._database.tenant(self._tenant_id) as connection:
            known = await lake_notifications.list_notifications(connection, self._tenant_id)
        wanted = {_key(item): self._wanted(item, known) for item in after.datasets if item.notifications}
        if not is_trial:
            wanted = await self._made(wanted, known)
        staying = {_key(item) for item in after.datasets}
        return Prepared(
            kept=[item for name, item in wanted.items() if item != known.get(name)],
            off=[item for name, item in known.items() if item.is_on and name in staying - wanted.keys()],
            gone=[item for name, item in known.items() if name not in staying],
            moved=[
                there
                for name, item in wanted.items()
                if (there := known.get(name)) is not None and there.region != item.region
            ],
            queues={name: item for name, item in wanted.items() if item.queue_arn},
        )

    def _wanted(self, dataset: Dataset, known: Mapping[str, Notification]) -> Notification:
        """A dataset's notification as it is to be; without a queue when there is none yet."""
        name = _key(dataset)
        bucket, _, path = dataset.source.path.partition("/")
        place = {
            "is_on": True,
            "bucket": bucket,
            "path": path.lstrip("/"),
            "format": format_of(dataset.source.path, dataset.params),
            "ending": dataset.params.get("file_extension", ""),
            "account": dataset.params.get("s3_account_id", ""),
            "region": dataset.params.get("s3_region", DEFAULT_REGION).lower(),
        }
        if (there := known.get(name)) is not None:
            return replace(there, **place)
        fresh = self._fresh.setdefault(name, str(uuid.uuid4()))
        empty = Notification(
            tenant_id=self._tenant_id,
            name=name,
            id=fresh,
            is_on=False,
            bucket="",
            path="",
            format="",
            ending="",
            account="",
            region="",
            queue_arn="",
            queue_url="",
            dead_url="",
        )
        return replace(empty, **place)

    async def _made(
        self, wanted: Mapping[str, Notification], known: Mapping[str, Notification]
    ) -> dict[str, Notification]:
        missing = {name: item for name, item in wanted.items() if _is_missing(item, known.get(name))}
        if not missing:
            return dict(wanted)
        async with self._database.tenant(self._tenant_id) as connection:
            for item in missing.values():
                await lake_queue_removals.plan(
                    connection, self._tenant_id, queue_name_of(item), item.region, grace=UNUSED_GRACE
                )
        limit = asyncio.Semaphore(AT_ONCE)

        async def make(item: Notification, before: Notification | None) -> Notification:
            async with limit:
                return await self._make(item, before)

        tasks = [asyncio.create_task(make(item, known.get(name))) for name, item in missing.items()]
        try:
            async with asyncio.timeout(SECONDS):
                made = await asyncio.gather(*tasks)
        except TimeoutError:
            raise ProvisioningFailed(f"The queues were not there within {SECONDS} seconds") from None
        finally:
            for task in tasks:
                task.cancel()
        return dict(wanted) | {item.name: item for item in made}

    async def _make(self, item: Notification, before: Notification | None) -> Notification:
        # Until the change is kept the bucket of before must go on reaching its queue.
        buckets = {item.bucket}
        if before is not None and before.is_on and before.region == item.region:
            buckets.add(before.bucket)
        account = "" if len(buckets) > 1 else item.account
        wanted = Wanted(name=queue_name_of(item), region=item.region, buckets=buckets, account=account)
        try:
            queue = await self._queues.ensure(wanted)
        except QueueServiceFailed as fault:
            message = f"The queue of dataset '{item.name}' could not be set up: {fault}"
            raise ProvisioningFailed(message) from None
        is_wide = len(buckets) > 1 or (before is not None and before.account != item.account)
        return replace(
            item,
            queue_arn=queue.queue_arn,
            queue_url=queue.queue_url,
            dead_url=queue.dead_url,
            is_policy_wide=item.is_policy_wide or is_wide,
        )


async def write_down(connection: Connection, tenant_id: str, prepared: Prepared) -> None:
    """In the transaction that keeps the change."""
    for item in prepared.kept:
        await lake_notifications.keep(connection, item)
        await lake_queue_removals.take_back(connection, tenant_id, queue_name_of(item), item.region)
    for item in (*prepared.off, *prepared.gone, *prepared.moved):
        await lake_queue_removals.plan(connection, tenant_id, queue_name_of(item), item.region, grace=GRACE)
    if prepared.off:
        await lake_notifications.switch_off(connection, tenant_id, [item.name for item in prepared.off])
    if prepared.gone:
        await lake_notifications.forget(connection, tenant_id, [item.name for item in prepared.gone])


def queue_name_of(item: Notification) -> str:
    return name_of(item.tenant_id, item.id)


def wanted_of(item: Notification) -> Wanted:
    """The queue of a notification as it is kept."""
    return Wanted(name=queue_name_of(item), region=item.region, buckets=[item.bucket], account=item.account)


def _is_missing(item: Notification, before: Notification | None) -> bool:
    """Whether the queue service has to do something."""
    if before is None or not before.is_on:
        return True
    return (before.bucket, before.account, before.region) != (item.bucket, item.account, item.region)


def _key(dataset: Dataset) -> str:
    return names.key_of(dataset.name)
