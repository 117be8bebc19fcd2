"""Tasks as rows, as those see them who create, read and steer them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from weir_shared.db.pool import Connection, Record

Status = Literal[
    "draft", "approved", "pending", "in_progress", "needs_input", "completed", "failed", "cancelled"
]


class TaskRow(Struct, frozen=True, kw_only=True):
    id: str
    owner: str
    agent_id: str | None
    agent: str
    title: str
    description: str
    acceptance_criteria: list[str]
    mode: str
    priority: int
    source: str
    status: Status
    parent_id: str | None
    depth: int
    blocked_by: list[str]
    is_automatic: bool
    origin_session_id: str | None
    session_id: str | None
    turn_id: str | None
    question: str | None
    result: str | None
    error: str | None
    claim: str | None
    trigger_id: str | None
    request_hash: bytes | None
    created_at: datetime
    updated_at: datetime
    approved_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None


class NewTaskRow(Struct, frozen=True, kw_only=True):
    id: str
    owner: str
    scopes: list[str]
    agent_id: str
    agent: str
    title: str
    description: str
    acceptance_criteria: list[str]
    mode: str
    priority: int
    source: str
    status: Status
    parent_id: str | None
    depth: int
    blocked_by: list[str]
    is_automatic: bool
    origin_session_id: str | None
    seconds_left: float
    idempotency_key: str | None
    request_hash: bytes | None


class TaskFilter(Struct, frozen=True, kw_only=True):
    """What the tasks of a page have in common; None asks for nothing."""

    owner: str | None = None
    status: str | None = None
    agent: str | None = None
    source: str | None = None
    parent_id: str | None = None
    origin_session_id: str | None = None


class Ended(Struct, frozen=True, kw_only=True):
    """A task that was ended, and the turn that may still run for it."""

    id: str
    session_id: str | None
    turn_id: str | None
    was_running: bool


async def add(connection: Connection, tenant_id: str, new: NewTaskRow) -> TaskRow:
    """Raises UniqueViolation for an idempotency key that the owner has used."""
    row = await connection.fetchrow(
        """
        insert into tasks (
            tenant_id, id, owner, scopes, agent_id, agent, title, description, acceptance_criteria, mode, priority,
            source, status, parent_id, depth, blocked_by, is_automatic, origin_session_id, seconds_left,
            idempotency_key, request_hash
        )
        values (
            $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21
        )
        returning *
        """,
        tenant_id,
        *msgspec.structs.astuple(new),
    )
    assert row is not None
    return _task(row)


async def count_open(connection: Connection, tenant_id: str, most: int) -> int:
    """How many of the tenant's tasks have not ended; counting stops at `most`."""
    counted = await connection.fetchval(
        """
        select count(*) from (
            select from tasks
            where tenant_id = $1 and status not in ('completed', 'failed', 'cancelled')
            limit $2
        ) as counted
        """,
        tenant_id,
        most,
    )
    return int(counted or 0)


async def find(connection: Connection, tenant_id: str, id: str) -> TaskRow | None:
    row = await connection.fetchrow("select * from tasks where tenant_id = $1 and id = $2", tenant_id, id)
    return _task(row) if row else None


async def lock(connection: Connection, tenant_id: str, id: str) -> TaskRow | None:
    """The task, kept from changes until the unit of work ends."""
    row = await connection.fetchrow(
        "select * from tasks where tenant_id = $1 and id = $2 for update", tenant_id, id
    )
    return _task(row) if row else None


async def find_by_key(connection: Connection, tenant_id: str, owner: str, key: str) -> TaskRow | None:
    row = await connection.fetchrow(
        "select * from tasks where tenant_id = $1 and owner = $2 and idempotency_key = $3",
        tenant_id,
        owner,
        key,
    )
    return _task(row) if row else None


async def hold(
    connection: Connection, tenant_id: str, owner: str | None, ids: Sequence[str]
) -> dict[str, Status]:
    """The status of each of these tasks of the owner (of anybody when None), which stays while the unit of work lasts."""
    rows = await connection.fetch(
        """
        select id, status from tasks
        where tenant_id = $1 and id = any($2::text[]) and ($3::text is null or owner = $3)
        order by id
        for share
        """,
        tenant_id,
        list(ids),
        owner,
    )
    return {row["id"]: row["status"] for row in rows}


async def lock_blockers(connection: Connection, tenant_id: str, ids: Sequence[str]) -> None:
    """Keeps these tasks and all that they wait for, near and far, from changes."""
    await connection.execute(
        """
        with recursive waited_for as (
            select id, blocked_by from tasks where tenant_id = $1 and id = any($2::text[])
            union
            select tasks.id, tasks.blocked_by from waited_for
            join tasks on tasks.tenant_id = $1 and tasks.id = any(waited_for.blocked_by)
        )
        select from tasks
        where tenant_id = $1 and id in (select id from waited_for)
        order by id
        for update
        """,
        tenant_id,
        list(ids),
    )


async def waits_for(connection: Connection, tenant_id: str, ids: Sequence[str], id: str) -> bool:
    """Whether one of these tasks is, or waits for, the task `id`."""
    found = await connection.fetchval(
        """
        with recursive waited_for as (
            select id, blocked_by from tasks where tenant_id = $1 and id = any($2::text[])
            union
            select tasks.id, tasks.blocked_by from waited_for
            join tasks on tasks.tenant_id = $1 and tasks.id = any(waited_for.blocked_by)
        )
        select exists (select from waited_for where id = $3)
        """,
        tenant_id,
        list(ids),
        id,
    )
    return bool(found)


async def unfinished(connection: Connection, tenant_id: str, ids: Sequence[str]) -> list[str]:
    """Those of these tasks that are not completed; one that was deleted blocks nobody."""
    rows = await connection.fetch(
        """
        select id from tasks
        where tenant_id = $1 and id = any($2::text[]) and status <> 'completed'
        order by number
        """,
        tenant_id,
        list(ids),
    )
    return [row["id"] for row in rows]


async def page(
    connection: Connection, tenant_id: str, wanted: TaskFilter, *, limit: int, offset: int
) -> tuple[list[TaskRow], int]:
    """The tasks that pass the filter, newest first, and how many there are in all."""
    filters = msgspec.structs.astuple(wanted)
    total = await connection.fetchval(
        """
        select count(*) from tasks
        where tenant_id = $1
              and ($2::text is null or owner = $2)
              and ($3::text is null or status = $3)
              and ($4::text is null or agent = $4)
              and ($5::text is null or source = $5)
              and ($6::text is null or parent_id = $6)
              and ($7::uuid is null or $7 in (origin_session_id, session_id))
        """,
        tenant_id,
        *filters,
    )
    rows = await connection.fetch(
        """
        select * from tasks
        where tenant_id = $1
              and ($2::text is null or owner = $2)
              and ($3::text is null or status = $3)
              and ($4::text is null or agent = $4)
              and ($5::text is null or source = $5)
              and ($6::text is null or parent_id = $6)
              and ($7::uuid is null or $7 in (origin_session_id, session_id))
        order by number desc
        limit $8 offset $9
        """,
        tenant_id,
        *filters,
        limit,
        offset,
    )
    return [_task(row) for row in rows], int(total or 0)


async def children(connection: Connection, tenant_id: str, id: str) -> list[TaskRow]:
    rows = await connection.fetch(
        "select * from tasks where tenant_id = $1 and parent_id = $2 order by number limit 1000",
        tenant_id,
        id,
    )
    return [_task(row) for row in rows]


async def change(connection: Connection, tenant_id: str, row: TaskRow) -> TaskRow:
    """What the creator may say anew, of a task that is locked."""
    changed = await connection.fetchrow(
        """
        update tasks
        set title = $3, description = $4, acceptance_criteria = $5, priority = $6, blocked_by = $7, agent_id = $8,
            agent = $9, is_automatic = $10, updated_at = now()
        where tenant_id = $1 and id = $2
        returning *
        """,
        tenant_id,
        row.id,
        row.title,
        row.description,
        row.acceptance_criteria,
        row.priority,
        row.blocked_by,
        row.agent_id,
        row.agent,
        row.is_automatic,
    )
    assert changed is not None
    return _task(changed)


async def move(
    connection: Connection,
    tenant_id: str,
    id: str,
    status: Status,
    *,
    result: str | None = None,
    error: str | None = None,
) -> TaskRow:
    """Puts a task that is locked into another state by hand; whoever had claimed it has lost it."""
    moved = await connection.fetchrow(
        """
        update tasks
        set status = $3, result = coalesce($4, result), error = coalesce($5, error), question = null, claim = null,
            claimed_until = null, updated_at = now(),
            approved_at = case when $3 = 'approved' then now() else approved_at end,
            started_at = case when $3 = 'in_progress' then coalesce(started_at, now()) else started_at end,
            completed_at = case when $3 in ('completed', 'failed', 'cancelled') then now() end
        where tenant_id = $1 and id = $2
        returning *
        """,
        tenant_id,
        id,
        status,
        result,
        error,
    )
    assert moved is not None
    return _task(moved)


async def resume(connection: Connection, tenant_id: str, id: str, message: str) -> TaskRow:
    """Hands a task that has asked its user back to the workers, with what its agent is told next."""
    row = await connection.fetchrow(
        """
        update tasks
        set status = 'in_progress', message = $3, question = null, claim = null, claimed_until = now(), attempts = 0,
            updated_at = now()
        where tenant_id = $1 and id = $2
        returning *
        """,
        tenant_id,
        id,
        message,
    )
    assert row is not None
    return _task(row)


async def cancel_dependents(
    connection: Connection, tenant_id: str, id: str, error: str, *, with_subtasks: bool
) -> list[Ended]:
    """Cancels what waits for a task that will not be completed, and what hangs below whatever is cancelled.

    `with_subtasks`: also what hangs below the task itself. What has begun waits for nothing. What is created below
    one of them meanwhile is found by the next call only.
    """
    rows = await connection.fetch(
        """
        with recursive doomed as (
            select $2 as id
            union
            select next.id from doomed
            cross join lateral (
                select tasks.id from tasks
                where tenant_id = $1 and parent_id = doomed.id and ($4 or doomed.id <> $2)
                union all
                select tasks.id from tasks
                where tenant_id = $1 and blocked_by @> array[doomed.id]
                      and status in ('draft', 'approved', 'pending', 'cancelled')
            ) as next
        ),
        locked as (
            select id, status from tasks
            where tenant_id = $1 and id in (select id from doomed where id <> $2)
                  and status not in ('completed', 'failed', 'cancelled')
            order by id
            for update
        )
        update tasks
        set status = 'cancelled', error = $3, question = null, claim = null, claimed_until = null,
            updated_at = now(), completed_at = now()
        from locked
        where tasks.tenant_id = $1 and tasks.id = locked.id
        returning tasks.id, tasks.session_id, tasks.turn_id,
                  locked.status in ('in_progress', 'needs_input') as was_running
        """,
        tenant_id,
        id,
        error,
        with_subtasks,
    )
    return [Ended(**dict(row)) for row in rows]


async def begin_waiting(connection: Connection, tenant_id: str, turn_id: str, question: str) -> bool:
    """The task of a turn that asks somebody; False when it waits already, or when there is none."""
    row = await connection.fetchrow(
        """
        update tasks set status = 'needs_input', question = $3, updated_at = now()
        where tenant_id = $1 and turn_id = $2 and status = 'in_progress'
        returning id
        """,
        tenant_id,
        turn_id,
        question,
    )
    return row is not None


async def end_waiting(connection: Connection, tenant_id: str, turn_id: str) -> bool:
    """The task of a turn goes on once none of its gates waits; whether it does now."""
    row = await connection.fetchrow(
        """
        update tasks set status = 'in_progress', question = null, updated_at = now()
        where tenant_id = $1 and turn_id = $2 and status = 'needs_input' and claim is not null
              and not exists (
                  select from confirmations
                  where confirmations.tenant_id = $1 and confirmations.turn_id = $2
                        and confirmations.status = 'pending'
              )
        returning id
        """,
        tenant_id,
        turn_id,
    )
    return row is not None


async def pending_confirmation(connection: Connection, tenant_id: str, turn_id: str) -> str | None:
    """The call that has waited longest for a word of approval in a turn."""
    return await connection.fetchval(
        """
        select call_id from confirmations
        where tenant_id = $1 and turn_id = $2 and status = 'pending'
        order by asked_at, call_id
        limit 1
        """,
        tenant_id,
        turn_id,
    )


def _task(row: Record) -> TaskRow:
    fields: dict[str, Any] = {name: row[name] for name in TaskRow.__struct_fields__}
    return TaskRow(**fields)
