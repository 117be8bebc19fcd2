"""`lake_notifications`: the queue of each dataset that is told of changes in S3, and what came through it.

`name` is the key of a dataset's name (`names.key_of`). A row outlives a switched-off notification, so that the
same queue and the same counters come back with it; it goes with the dataset.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Literal

from msgspec import Struct

from weir.context_lake import measures
from weir_shared.db.pool import Connection

State = Literal["pending", "connected", "receiving"]


class Queue(Struct, frozen=True, kw_only=True):
    """A queue and the place where what cannot be read goes."""

    region: str
    queue_arn: str
    queue_url: str
    dead_url: str


class Notification(Queue, frozen=True, kw_only=True):
    """A dataset's notification as it is kept."""

    tenant_id: str
    name: str
    id: str
    """Of the dataset, not of its name: a dataset that comes anew has another one, and another queue."""
    is_on: bool
    bucket: str
    path: str
    format: str
    ending: str
    account: str
    is_policy_wide: bool = False
    is_connected: bool = False
    is_receiving: bool = False
    event_count: int = 0
    last_event_at: datetime | None = None
    last_refresh_at: datetime | None = None
    dead_count: int = 0
    listing: str | None = None

    @property
    def state(self) -> State:
        if self.is_receiving:
            return "receiving"
        return "connected" if self.is_connected else "pending"


class Polled(Struct, frozen=True, kw_only=True):
    """A queue of any tenant, as the poller sees it."""

    id: str
    tenant_id: str
    name: str
    region: str
    queue_url: str
    dead_url: str
    is_awake: bool


_COLUMNS = """
    tenant_id, name, id, is_on, bucket, path, format, ending, account, region, queue_arn, queue_url, dead_url,
    is_policy_wide, is_connected, is_receiving, event_count, last_event_at, last_refresh_at, dead_count, listing
"""


async def list_notifications(connection: Connection, tenant_id: str) -> dict[str, Notification]:
    """By the key of the dataset's name, those that are off too."""
    rows = await connection.fetch(
        f"select {_COLUMNS} from lake_notifications where tenant_id = $1",  # noqa: S608
        tenant_id,
    )
    return {row["name"]: Notification(**dict(row)) for row in rows}


async def lock(connection: Connection, tenant_id: str, notification_id: str) -> Notification | None:
    """One that is on, held until the transaction ends: its messages are counted one batch after the other."""
    row = await connection.fetchrow(
        f"""
        select {_COLUMNS} from lake_notifications
        where tenant_id = $1 and id = $2 and is_on for update
        """,  # noqa: S608
        tenant_id,
        notification_id,
    )
    return Notification(**dict(row)) if row else None


async def keep(connection: Connection, wanted: Notification) -> None:
    """Makes it what it is to be. Another bucket begins to count anew; the same one goes on."""
    await connection.execute(
        """
        insert into lake_notifications as n (
            tenant_id, name, id, is_on, bucket, path, format, ending, account, region, queue_arn, queue_url,
            dead_url, is_policy_wide
        )
        values ($1, $2, $3, true, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        on conflict (tenant_id, name) do update set
            is_on = true, path = $5, format = $6, ending = $7, account = $8, region = $9, queue_arn = $10,
            queue_url = $11, dead_url = $12, is_policy_wide = n.is_policy_wide or $13, bucket = $4, listing = null,
            is_connected = n.is_connected and n.bucket = $4 and n.queue_arn = $10,
            is_receiving = n.is_receiving and n.bucket = $4 and n.queue_arn = $10,
            event_count = case when n.bucket = $4 then n.event_count else 0 end,
            last_event_at = case when n.bucket = $4 then n.last_event_at end,
            last_refresh_at = case when n.bucket = $4 then n.last_refresh_at end,
            waiting_since = case when n.bucket = $4 then n.waiting_since end
        """,
        wanted.tenant_id,
        wanted.name,
        wanted.id,
        wanted.bucket,
        wanted.path,
        wanted.format,
        wanted.ending,
        wanted.account,
        wanted.region,
        wanted.queue_arn,
        wanted.queue_url,
        wanted.dead_url,
        wanted.is_policy_wide,
    )


async def switch_off(connection: Connection, tenant_id: str, names: Collection[str]) -> None:
    await connection.execute(
        "update lake_notifications set is_on = false where tenant_id = $1 and name = any($2)",
        tenant_id,
        list(names),
    )


async def forget(connection: Connection, tenant_id: str, names: Collection[str]) -> None:
    """The datasets are gone, and what was counted of them."""
    await connection.execute(
        "delete from lake_notifications where tenant_id = $1 and name = any($2)", tenant_id, list(names)
    )


async def note_connected(connection: Connection, tenant_id: str, notification_id: str) -> None:
    await connection.execute(
        "update lake_notifications set is_connected = true where tenant_id = $1 and id = $2",
        tenant_id,
        notification_id,
    )


async def note_events(
    connection: Connection,
    tenant_id: str,
    notification_id: str,
    *,
    count: int,
    last_at: datetime | None,
    is_wanted: bool,
) -> None:
    """Counts events that were not known. A moment that lies ahead of the clock is taken for now."""
    await connection.execute(
        """
        update lake_notifications set
            is_connected = true, is_receiving = true, event_count = event_count + $3,
            last_event_at = greatest(last_event_at, least($4, now())),
            waiting_since = case when $5 then coalesce(waiting_since, now()) else waiting_since end
        where tenant_id = $1 and id = $2
        """,
        tenant_id,
        notification_id,
        count,
        last_at,
        is_wanted,
    )


async def note_refreshed(connection: Connection, tenant_id: str, name: str) -> None:
    """The dataset has been read again: for whoever serves refreshes, in the transaction of `succeed`."""
    waited = await connection.fetchrow(
        """
        with before as (
            select waiting_since from lake_notifications where tenant_id = $1 and name = $2 for update
        )
        update lake_notifications as n set last_refresh_at = now(), waiting_since = null
        from before
        where n.tenant_id = $1 and n.name = $2
        returning extract(epoch from clock_timestamp() - before.waiting_since)::float8 as seconds
        """,
        tenant_id,
        name,
    )
    if waited is not None and waited["seconds"] is not None:
        measures.EVENT_TO_REFRESH.observe(waited["seconds"])


async def note_dead(connection: Connection, tenant_id: str, notification_id: str, dead_count: int) -> None:
    await connection.execute(
        "update lake_notifications set dead_count = $3 where tenant_id = $1 and id = $2",
        tenant_id,
        notification_id,
        dead_count,
    )


async def note_listing(connection: Connection, tenant_id: str, notification_id: str, listing: str) -> None:
    await connection.execute(
        "update lake_notifications set listing = $3, listed_at = now() where tenant_id = $1 and id = $2",
        tenant_id,
        notification_id,
        listing,
    )


async def note_narrow(connection: Connection, tenant_id: str, notification_id: str, bucket: str) -> None:
    """The queue takes events of this bucket only."""
    await connection.execute(
        """
        update lake_notifications set is_policy_wide = false
        where tenant_id = $1 and id = $2 and bucket = $3
        """,
        tenant_id,
        notification_id,
        bucket,
    )


async def list_polled_any(connection: Connection, *, share: int, of: int) -> list[Polled]:
    """One worker's share of the queues of all tenants."""
    rows = await connection.fetch(
        """
        select n.id, n.tenant_id, n.name, n.region, n.queue_url, n.dead_url,
            coalesce(vm.state = 'running', false) as is_awake
        from lake_notifications as n left join lake_vms as vm on vm.tenant_id = n.tenant_id
        where n.is_on and (hashtext(n.id::text) & 2147483647) % $2 = $1
        """,
        share,
        of,
    )
    return [Polled(**dict(row)) for row in rows]


async def list_wide_any(connection: Connection) -> list[Notification]:
    rows = await connection.fetch(
        f"select {_COLUMNS} from lake_notifications where is_on and is_policy_wide limit 100"  # noqa: S608
    )
    return [Notification(**dict(row)) for row in rows]


async def claim_listing_any(connection: Connection, *, seconds: float, most: int) -> list[Notification]:
    """Datasets of awake lakes that nobody has listed for so long; they count as listed from now on."""
    rows = await connection.fetch(
        f"""
        with due as (
            select n.id as due_id from lake_notifications as n
                join lake_vms as vm on vm.tenant_id = n.tenant_id and vm.state = 'running'
            where n.is_on and (n.listed_at is null or n.listed_at < now() - make_interval(secs => $1))
            order by n.listed_at nulls first limit $2
            for update of n skip locked
        )
        update lake_notifications set listed_at = now() from due where id = due_id
        returning {_COLUMNS}
        """,  # noqa: S608
        seconds,
        most,
    )
    return [Notification(**dict(row)) for row in rows]


async def sum_dead_any(connection: Connection) -> int:
    dead = await connection.fetchval("select sum(dead_count)::bigint from lake_notifications")
    return dead or 0
