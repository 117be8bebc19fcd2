"""`lake_queue_removals`: queues that are to be deleted, by their names, and when."""

from datetime import timedelta

from msgspec import Struct

from weir_shared.db.pool import Connection


class Removal(Struct, frozen=True, kw_only=True):
    tenant_id: str
    queue_name: str
    region: str
    attempts: int


async def plan(
    connection: Connection, tenant_id: str, queue_name: str, region: str, *, grace: timedelta
) -> None:
    """The queue goes after the grace, unless somebody takes that back."""
    await connection.execute(
        """
        insert into lake_queue_removals as r (tenant_id, queue_name, region, due_at)
        values ($1, $2, $3, now() + $4)
        on conflict (tenant_id, queue_name, region) do update
            set due_at = greatest(r.due_at, excluded.due_at), attempts = 0
        """,
        tenant_id,
        queue_name,
        region,
        grace,
    )


async def take_back(connection: Connection, tenant_id: str, queue_name: str, region: str) -> None:
    await connection.execute(
        "delete from lake_queue_removals where tenant_id = $1 and queue_name = $2 and region = $3",
        tenant_id,
        queue_name,
        region,
    )


async def claim_due_any(connection: Connection, *, retry_seconds: float, most: int) -> list[Removal]:
    """Queues of any tenant whose time has come and that nobody uses; they come again while they stay."""
    rows = await connection.fetch(
        """
        with due as (
            select r.ctid as place from lake_queue_removals as r
            where r.due_at <= now() and not exists (
                select from lake_notifications as n
                where n.is_on and n.region = r.region and split_part(n.queue_arn, ':', 6) = r.queue_name
            )
            order by r.due_at limit $2
            for update skip locked
        )
        update lake_queue_removals as r
        set attempts = attempts + 1,
            due_at = now() + make_interval(secs => $1::float8 * power(2, least(attempts, 6)))
        from due where r.ctid = due.place
        returning r.tenant_id, r.queue_name, r.region, r.attempts
        """,
        retry_seconds,
        most,
    )
    return [Removal(**dict(row)) for row in rows]
