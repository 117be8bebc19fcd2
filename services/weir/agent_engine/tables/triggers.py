"""Triggers and their firings as rows."""

from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from weir_shared.db.pool import Connection, Record

# How long a firing is remembered, and with it that its event has been.
KEPT_DAYS = 30
# A refresh that ended so long ago is committed, if it ever will be.
SETTLED_SECONDS = 300

Kind = Literal["cron", "webhook", "dataset_refreshed"]


class TriggerRow(Struct, frozen=True, kw_only=True):
    tenant_id: str
    id: str
    type: Kind
    title: str
    description: str
    owner: str
    scopes: list[str]
    agent_id: str
    agent: str
    priority: int
    enabled: bool
    schedule: str | None
    timezone: str
    webhook_path: str | None
    secret_sealed: bytes | None
    datasets: list[str]
    next_fire_at: datetime | None
    last_fired_at: datetime | None
    last_task_id: str | None
    failures: int
    last_error: str | None
    last_error_at: datetime | None
    created_at: datetime
    updated_at: datetime


class NewTriggerRow(Struct, frozen=True, kw_only=True):
    id: str
    type: Kind
    title: str
    description: str
    owner: str
    scopes: list[str]
    agent_id: str
    agent: str
    priority: int
    enabled: bool
    schedule: str | None
    timezone: str
    webhook_path: str | None
    secret_sealed: bytes | None
    datasets: list[str]
    next_fire_at: datetime | None


class FiringRow(Struct, frozen=True, kw_only=True):
    event: str
    task_id: str | None
    error: str | None
    fired_at: datetime


class RefreshedDataset(Struct, frozen=True, kw_only=True):
    """A run of the lake that has succeeded, and a trigger that has not fired for it yet."""

    tenant_id: str
    trigger_id: str
    run_id: int
    name: str
    row_count: int | None
    ended_at: datetime


async def add(connection: Connection, tenant_id: str, new: NewTriggerRow) -> TriggerRow:
    row = await connection.fetchrow(
        """
        insert into triggers (
            tenant_id, id, type, title, description, owner, scopes, agent_id, agent, priority, enabled, schedule,
            timezone, webhook_path, secret_sealed, datasets, next_fire_at
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
        returning *
        """,
        tenant_id,
        *msgspec.structs.astuple(new),
    )
    assert row is not None
    return _trigger(row)


async def every(connection: Connection, tenant_id: str, owner: str | None) -> list[TriggerRow]:
    rows = await connection.fetch(
        """
        select * from triggers where tenant_id = $1 and ($2::text is null or owner = $2)
        order by created_at, id
        """,
        tenant_id,
        owner,
    )
    return [_trigger(row) for row in rows]


async def count(connection: Connection, tenant_id: str) -> int:
    found = await connection.fetchval("select count(*) from triggers where tenant_id = $1", tenant_id)
    return int(found or 0)


async def find(connection: Connection, tenant_id: str, id: str) -> TriggerRow | None:
    row = await connection.fetchrow("select * from triggers where tenant_id = $1 and id = $2", tenant_id, id)
    return _trigger(row) if row else None


async def lock(connection: Connection, tenant_id: str, id: str) -> TriggerRow | None:
    row = await connection.fetchrow(
        "select * from triggers where tenant_id = $1 and id = $2 for update", tenant_id, id
    )
    return _trigger(row) if row else None


async def find_any_by_path(connection: Connection, path: str) -> TriggerRow | None:
    row = await connection.fetchrow("select * from triggers where webhook_path = $1", path)
    return _trigger(row) if row else None


async def change(
    connection: Connection, tenant_id: str, row: TriggerRow, *, is_armed_anew: bool
) -> TriggerRow:
    """What may be said anew, of a trigger that is locked; armed anew, only what happens from now on counts."""
    changed = await connection.fetchrow(
        """
        update triggers
        set title = $3, description = $4, agent_id = $5, agent = $6, priority = $7, enabled = $8, schedule = $9,
            timezone = $10, secret_sealed = $11, datasets = $12, next_fire_at = $13, updated_at = now(),
            armed_at = case when $14 then now() else armed_at end
        where tenant_id = $1 and id = $2
        returning *
        """,
        tenant_id,
        row.id,
        row.title,
        row.description,
        row.agent_id,
        row.agent,
        row.priority,
        row.enabled,
        row.schedule,
        row.timezone,
        row.secret_sealed,
        row.datasets,
        row.next_fire_at,
        is_armed_anew,
    )
    assert changed is not None
    return _trigger(changed)


async def remove(connection: Connection, tenant_id: str, id: str) -> None:
    await connection.execute("delete from triggers where tenant_id = $1 and id = $2", tenant_id, id)


async def due_any(connection: Connection, limit: int) -> list[TriggerRow]:
    """Those whose time has come, by the clock of the database."""
    rows = await connection.fetch(
        """
        select * from triggers where type = 'cron' and enabled and next_fire_at <= now()
        order by next_fire_at limit $1
        """,
        limit,
    )
    return [_trigger(row) for row in rows]


async def refreshed_any(connection: Connection, limit: int) -> list[RefreshedDataset]:
    """Refreshes of datasets for which triggers have not fired yet, oldest first."""
    rows = await connection.fetch(
        """
        select triggers.tenant_id, triggers.id as trigger_id, runs.id as run_id, runs.name, runs.row_count,
               runs.ended_at
        from triggers
        join lake_refresh_runs as runs
             on runs.tenant_id = triggers.tenant_id and runs.id > triggers.run_cursor
                and runs.outcome = 'succeeded' and runs.ended_at >= triggers.armed_at
                and (cardinality(triggers.datasets) = 0 or runs.name = any(triggers.datasets))
        where triggers.type = 'dataset_refreshed' and triggers.enabled
              and not exists (
                  select from trigger_firings
                  where trigger_firings.tenant_id = triggers.tenant_id
                        and trigger_firings.trigger_id = triggers.id
                        and trigger_firings.event = 'run:' || runs.id
              )
        order by runs.id
        limit $1
        """,
        limit,
    )
    return [RefreshedDataset(**dict(row)) for row in rows]


async def pass_any_runs(connection: Connection) -> None:
    """Moves the cursors on; only when nothing is left to fire, and not to what may still have to be committed."""
    await connection.execute(
        """
        update triggers set run_cursor = settled.id
        from (
            select tenants.tenant_id, (
                select max(runs.id) from lake_refresh_runs as runs
                where runs.tenant_id = tenants.tenant_id and runs.ended_at < now() - make_interval(secs => $1)
            ) as id
            from (
                select distinct tenant_id from triggers where type = 'dataset_refreshed' and enabled
            ) as tenants
        ) as settled
        where triggers.tenant_id = settled.tenant_id and type = 'dataset_refreshed' and enabled
              and run_cursor < settled.id
        """,
        SETTLED_SECONDS,
    )


async def add_firing(
    connection: Connection, tenant_id: str, trigger_id: str, event: str, *, error: str | None = None
) -> bool:
    """False when the trigger has fired for this event before."""
    added = await connection.fetchval(
        """
        insert into trigger_firings (tenant_id, trigger_id, event, error) values ($1, $2, $3, $4)
        on conflict do nothing
        returning true
        """,
        tenant_id,
        trigger_id,
        event,
        error,
    )
    return added is not None


async def find_firing(
    connection: Connection, tenant_id: str, trigger_id: str, event: str
) -> FiringRow | None:
    row = await connection.fetchrow(
        """
        select event, task_id, error, fired_at from trigger_firings
        where tenant_id = $1 and trigger_id = $2 and event = $3
        """,
        tenant_id,
        trigger_id,
        event,
    )
    return FiringRow(**dict(row)) if row else None


async def firings(connection: Connection, tenant_id: str, trigger_id: str, limit: int) -> list[FiringRow]:
    """Newest first."""
    rows = await connection.fetch(
        """
        select event, task_id, error, fired_at from trigger_firings
        where tenant_id = $1 and trigger_id = $2
        order by fired_at desc, event desc
        limit $3
        """,
        tenant_id,
        trigger_id,
        limit,
    )
    return [FiringRow(**dict(row)) for row in rows]


async def note_fired(
    connection: Connection,
    tenant_id: str,
    trigger_id: str,
    event: str,
    task_id: str,
    next_fire_at: datetime | None,
) -> None:
    """Which task an event has become."""
    await connection.execute(
        """
        with firing as (
            update trigger_firings set task_id = $4
            where tenant_id = $1 and trigger_id = $2 and event = $3
        ),
        task as (
            update tasks set trigger_id = $2 where tenant_id = $1 and id = $4
        )
        update triggers
        set last_fired_at = now(), last_task_id = $4, next_fire_at = $5, failures = 0, last_error = null,
            last_error_at = null
        where tenant_id = $1 and id = $2
        """,
        tenant_id,
        trigger_id,
        event,
        task_id,
        next_fire_at,
    )


async def note_failed(
    connection: Connection, tenant_id: str, trigger_id: str, error: str, next_fire_at: datetime | None
) -> None:
    await connection.execute(
        """
        update triggers
        set failures = failures + 1, last_error = $3, last_error_at = now(), next_fire_at = $4
        where tenant_id = $1 and id = $2
        """,
        tenant_id,
        trigger_id,
        error,
        next_fire_at,
    )


async def forget_old_any(connection: Connection) -> None:
    """Of a refresh nothing is forgotten before its run is behind the cursor, long since."""
    await connection.execute(
        "delete from trigger_firings where fired_at < now() - make_interval(days => $1)", KEPT_DAYS
    )


def _trigger(row: Record) -> TriggerRow:
    fields: dict[str, Any] = {name: row[name] for name in TriggerRow.__struct_fields__}
    return TriggerRow(**fields)
