"""`lake_refreshes`: which datasets and views are to be read again, when, and what came of the last time.

`name` is the key of a name (`names.key_of`): datasets and views share one namespace.
"""

import uuid
from datetime import datetime
from typing import Literal

from msgspec import Struct

from weir_shared.db.pool import Connection

Trigger = Literal["schedule", "sqs", "webhook", "manual", "redeploy", "source", "reconcile"]


class Due(Struct, frozen=True, kw_only=True):
    """A refresh of any tenant that may start now."""

    tenant_id: str
    name: str


class Claim(Struct, frozen=True, kw_only=True):
    """The right to serve the wishes made so far."""

    token: uuid.UUID
    trigger: Trigger
    wanted_since: datetime
    failures: int = 0
    """How often it has failed since it last succeeded."""


class Refresh(Struct, frozen=True, kw_only=True):
    """What is known of the refreshes of one dataset or view."""

    name: str
    wish: int
    served: int
    trigger: str
    wanted_at: datetime | None
    is_claimed: bool
    """Whether somebody is at it."""
    started_at: datetime | None
    succeeded_at: datetime | None
    failed_at: datetime | None
    error: str | None
    failures: int
    next_at: datetime | None

    @property
    def is_open(self) -> bool:
        return self.wish > self.served

    @property
    def due_at(self) -> datetime | None:
        """When it is read again: what is wished for comes before what is scheduled."""
        return self.wanted_at if self.is_open else self.next_at


class Run(Struct, frozen=True, kw_only=True):
    """One refresh that has ended."""

    id: int
    trigger: str
    outcome: Literal["succeeded", "failed", "lost"]
    row_count: int | None
    byte_count: int | None
    error: str | None
    started_at: datetime
    ended_at: datetime


async def want(
    connection: Connection,
    tenant_id: str,
    name: str,
    *,
    trigger: Trigger,
    quiet_seconds: float = 0,
    most_seconds: float = 30,
) -> int:
    """Wishes for a refresh: after so much quiet, and at most so long after the first wish that is still open.

    Part of the caller's transaction: whoever commits a reason for a refresh has committed the refresh. Returns the
    wish's number: it is served when `served` has come to it.
    """
    wish = await connection.fetchval(
        """
        insert into lake_refreshes as r (tenant_id, name, wish, trigger, wanted_since, wanted_at)
        values ($1, $2, 1, $3, now(), now() + make_interval(secs => $4))
        on conflict (tenant_id, name) do update set
            wish = r.wish + 1,
            trigger = excluded.trigger,
            wanted_since = case when r.wish > greatest(r.served, r.claimed) then r.wanted_since else now() end,
            wanted_at = least(
                now() + make_interval(secs => $4),
                case when r.wish > greatest(r.served, r.claimed) then r.wanted_since else now() end
                    + make_interval(secs => $5)
            )
        returning r.wish
        """,
        tenant_id,
        name,
        trigger,
        quiet_seconds,
        most_seconds,
    )
    return int(wish or 0)


async def hold(connection: Connection, tenant_id: str, name: str) -> None:
    """Takes the row before others are taken, whether anything was ever wished for or not."""
    await connection.execute(
        """
        insert into lake_refreshes (tenant_id, name) values ($1, $2)
        on conflict (tenant_id, name) do update set name = excluded.name
        """,
        tenant_id,
        name,
    )


async def find_due_any(connection: Connection) -> list[Due]:
    """Open wishes of any tenant whose time has come, whose runtime is awake, and that nobody is at."""
    rows = await connection.fetch(
        """
        select r.tenant_id, r.name
        from lake_refreshes as r join lake_vms as vm on vm.tenant_id = r.tenant_id and vm.state = 'running'
        where r.served < r.wish and r.wanted_at <= now() and (r.lease_until is null or r.lease_until < now())
        order by r.wanted_at limit 200
        """
    )
    return [Due(**dict(row)) for row in rows]


async def count_due_any(connection: Connection) -> tuple[int, float]:
    """How many wishes of awake runtimes are due and taken by nobody, and for how many seconds the oldest has been."""
    row = await connection.fetchrow(
        """
        select count(*) as wishes,
               coalesce(extract(epoch from now() - min(r.wanted_at)), 0)::float8 as seconds
        from lake_refreshes as r join lake_vms as vm on vm.tenant_id = r.tenant_id and vm.state = 'running'
        where r.served < r.wish and r.wanted_at <= now() and (r.lease_until is null or r.lease_until < now())
        """
    )
    assert row is not None
    return row["wishes"], row["seconds"]


async def want_scheduled_any(connection: Connection) -> list[Due]:
    """Makes a wish of every schedule of any tenant whose time has come and whose runtime is awake."""
    rows = await connection.fetch(
        """
        with due as (
            select r.tenant_id, r.name
            from lake_refreshes as r join lake_vms as vm on vm.tenant_id = r.tenant_id and vm.state = 'running'
            where r.next_at <= now()
            order by r.next_at limit 200
            for update of r skip locked
        )
        update lake_refreshes as r set
            wish = r.wish + 1,
            trigger = case when r.wish > greatest(r.served, r.claimed) then r.trigger else 'schedule' end,
            wanted_since = case when r.wish > greatest(r.served, r.claimed) then r.wanted_since else now() end,
            wanted_at = case when r.wish > greatest(r.served, r.claimed) then r.wanted_at else now() end,
            next_at = null
        from due where r.tenant_id = due.tenant_id and r.name = due.name
        returning r.tenant_id, r.name
        """
    )
    return [Due(**dict(row)) for row in rows]


async def find_sleeping_due_any(connection: Connection) -> list[str]:
    """Tenants whose runtime sleeps while something is due by its schedule."""
    rows = await connection.fetch(
        """
        select distinct r.tenant_id
        from lake_refreshes as r left join lake_vms as vm on vm.tenant_id = r.tenant_id
        where r.next_at <= now() and coalesce(vm.state, 'not_provisioned') in ('paused', 'not_provisioned')
        limit 50
        """
    )
    return [row["tenant_id"] for row in rows]


async def schedule(connection: Connection, tenant_id: str, name: str, next_at: datetime | None) -> None:
    """When it is to be read again by itself; None: when somebody asks."""
    if next_at is None:
        await connection.execute(
            "update lake_refreshes set next_at = null where tenant_id = $1 and name = $2", tenant_id, name
        )
        return
    await connection.execute(
        """
        insert into lake_refreshes (tenant_id, name, next_at) values ($1, $2, $3)
        on conflict (tenant_id, name) do update set next_at = excluded.next_at
        """,
        tenant_id,
        name,
        next_at,
    )


async def is_near(connection: Connection, tenant_id: str, *, seconds: float) -> bool:
    """Whether a refresh of the tenant is under way, or due within so many seconds."""
    near = await connection.fetchval(
        """
        select exists (
            select from lake_refreshes
            where tenant_id = $1 and (
                lease_until > now()
                or (served < wish and wanted_at <= now() + make_interval(secs => $2))
                or next_at <= now() + make_interval(secs => $2)
            )
        )
        """,
        tenant_id,
        seconds,
    )
    return bool(near)


async def claim(
    connection: Connection, tenant_id: str, name: str, *, seconds: float, even_early: bool = False
) -> Claim | None:
    """The lease on a refresh, or None: nothing is open, it is not time yet, or somebody else is at it.

    A lease that has run out is somebody's who is gone: the run is noted as lost.
    """
    row = await connection.fetchrow(
        """
        with before as (
            select lease_token, trigger, started_at from lake_refreshes
            where tenant_id = $1 and name = $2
        ), mine as (
            update lake_refreshes
            set claimed = wish, lease_token = gen_random_uuid(), started_at = clock_timestamp(),
                lease_until = now() + make_interval(secs => $3)
            where tenant_id = $1 and name = $2 and served < wish and ($4 or wanted_at <= now())
                and (lease_until is null or lease_until < now())
            returning lease_token as token, trigger, wanted_since, failures
        ), lost as (
            insert into lake_refresh_runs (tenant_id, name, trigger, outcome, started_at)
            select $1, $2, before.trigger, 'lost', before.started_at
            from before, mine where before.lease_token is not null
        )
        select * from mine
        """,
        tenant_id,
        name,
        seconds,
        even_early,
    )
    return Claim(**dict(row)) if row else None


async def extend(
    connection: Connection, tenant_id: str, name: str, token: uuid.UUID, *, seconds: float
) -> bool:
    """More time for a refresh under way; False when the lease has been lost."""
    held = await connection.fetchval(
        """
        update lake_refreshes set lease_until = now() + make_interval(secs => $4)
        where tenant_id = $1 and name = $2 and lease_token = $3
        returning true
        """,
        tenant_id,
        name,
        token,
        seconds,
    )
    return held is not None


async def succeed(
    connection: Connection,
    tenant_id: str,
    name: str,
    token: uuid.UUID,
    *,
    row_count: int | None,
    byte_count: int | None,
) -> bool:
    """The wishes made before the claim are served; False when the lease has been lost."""
    served = await connection.fetchval(
        """
        with done as (
            update lake_refreshes
            set served = claimed, succeeded_at = now(), error = null, failures = 0,
                wanted_since = case when wish > claimed then wanted_since end,
                lease_token = null, lease_until = null
            where tenant_id = $1 and name = $2 and lease_token = $3
            returning trigger, started_at
        )
        insert into lake_refresh_runs (tenant_id, name, trigger, outcome, row_count, byte_count, started_at)
        select $1, $2, trigger, 'succeeded', $4, $5, started_at from done
        returning true
        """,
        tenant_id,
        name,
        token,
        row_count,
        byte_count,
    )
    return served is not None


async def fail(
    connection: Connection,
    tenant_id: str,
    name: str,
    token: uuid.UUID,
    *,
    error: str,
    retry_seconds: float | None,
) -> bool:
    """The wishes stay open and are tried again after a while; None gives them up.

    False when the lease has been lost.
    """
    noted = await connection.fetchval(
        """
        with done as (
            update lake_refreshes
            set failed_at = now(), error = $4, failures = failures + 1,
                served = case when $5::float8 is null then claimed else served end,
                claimed = case when $5::float8 is null then claimed else served end,
                wanted_at = coalesce(now() + make_interval(secs => $5), wanted_at),
                lease_token = null, lease_until = null
            where tenant_id = $1 and name = $2 and lease_token = $3
            returning trigger, started_at
        )
        insert into lake_refresh_runs (tenant_id, name, trigger, outcome, error, started_at)
        select $1, $2, trigger, 'failed', $4, started_at from done
        returning true
        """,
        tenant_id,
        name,
        token,
        error,
        retry_seconds,
    )
    return noted is not None


async def forget(connection: Connection, tenant_id: str, names: list[str]) -> None:
    """What was removed from the lake is not refreshed any more."""
    await connection.execute(
        "delete from lake_refreshes where tenant_id = $1 and name = any($2)", tenant_id, names
    )
    await connection.execute(
        "delete from lake_refresh_runs where tenant_id = $1 and name = any($2)", tenant_id, names
    )


async def read_refresh(connection: Connection, tenant_id: str, name: str) -> Refresh | None:
    found = await _read(connection, tenant_id, [name])
    return found[0] if found else None


async def read_refreshes(connection: Connection, tenant_id: str) -> dict[str, Refresh]:
    """Everything that was ever refreshed, by its key."""
    return {refresh.name: refresh for refresh in await _read(connection, tenant_id, None)}


async def list_runs(
    connection: Connection, tenant_id: str, name: str, *, before: int | None, limit: int
) -> list[Run]:
    """The runs of one name, the newest first; those before a run's id."""
    rows = await connection.fetch(
        """
        select id, trigger, outcome, row_count, byte_count, error, started_at, ended_at
        from lake_refresh_runs
        where tenant_id = $1 and name = $2 and ($3::bigint is null or id < $3)
        order by id desc limit $4
        """,
        tenant_id,
        name,
        before,
        limit,
    )
    return [Run(**dict(row)) for row in rows]


async def forget_runs_any(connection: Connection, *, kept: int) -> None:
    """Keeps the newest runs of each name of any tenant."""
    await connection.execute(
        """
        delete from lake_refresh_runs where id in (
            select id from (
                select id, row_number() over (partition by tenant_id, name order by id desc) as place
                from lake_refresh_runs
            ) as numbered where place > $1
        )
        """,
        kept,
    )


async def _read(connection: Connection, tenant_id: str, names: list[str] | None) -> list[Refresh]:
    rows = await connection.fetch(
        """
        select name, wish, served, trigger, wanted_at, coalesce(lease_until > now(), false) as is_claimed,
            started_at, succeeded_at, failed_at, error, failures, next_at
        from lake_refreshes where tenant_id = $1 and ($2::text[] is null or name = any($2))
        """,
        tenant_id,
        names,
    )
    return [Refresh(**dict(row)) for row in rows]
