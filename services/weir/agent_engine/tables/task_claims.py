"""Claims of tasks: a worker takes some, keeps them while it lives, and writes only while it does."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from weir_shared.db.pool import Connection

LEASE_SECONDS = 15
MAX_ATTEMPTS = 5


class ClaimedTask(Struct, frozen=True, kw_only=True):
    """A task that this worker works on as long as its claim holds."""

    tenant_id: str
    id: str
    claim: str
    owner: str
    scopes: list[str]
    agent_id: str | None
    agent: str
    title: str
    description: str
    acceptance_criteria: list[str]
    session_id: str | None
    turn_id: str | None
    message: str | None
    attempts: int
    seconds_left: float
    former: str
    """The state in which it was taken."""


async def take_any(connection: Connection, most: int) -> list[ClaimedTask]:
    """Claims tasks that are ready, or whose worker is gone: of each tenant the first, then of each the second, and so on.

    Within a tenant what was begun comes first, then what is more urgent, then what is older.
    """
    rows = await connection.fetch(
        """
        with ready as (
            select tenant_id, id, status, claimed_until,
                   row_number() over (
                       partition by tenant_id
                       order by (status in ('in_progress', 'needs_input')) desc, priority desc, number
                   ) as place
            from tasks
            where is_automatic and status in ('pending', 'approved')
                  and not exists (
                      select from tasks as blockers
                      where blockers.tenant_id = tasks.tenant_id and blockers.id = any(tasks.blocked_by)
                            and blockers.status <> 'completed'
                  )
                  or claimed_until < now() and status in ('in_progress', 'needs_input')
        ),
        chosen as (
            select tasks.tenant_id, tasks.id, tasks.status
            from tasks
            join ready using (tenant_id, id)
            -- Said of the row itself, so that one that changed meanwhile is looked at again.
            where tasks.status = ready.status and tasks.claimed_until is not distinct from ready.claimed_until
            order by ready.place, tasks.number
            limit $1
            for update of tasks skip locked
        )
        update tasks
        set status = 'in_progress', claim = gen_random_uuid(),
            claimed_until = now() + make_interval(secs => $2), attempts = attempts + 1, question = null,
            started_at = coalesce(started_at, now()), updated_at = now()
        from chosen
        where tasks.tenant_id = chosen.tenant_id and tasks.id = chosen.id
        returning tasks.tenant_id, tasks.id, claim, owner, scopes, agent_id, agent, title, description,
                  acceptance_criteria, session_id, turn_id, message, attempts, seconds_left,
                  chosen.status as former
        """,
        most,
        LEASE_SECONDS,
    )
    return [ClaimedTask(**dict(row)) for row in rows]


async def keep_any(connection: Connection, held: Mapping[str, float]) -> set[str]:
    """Keeps claims for another while, with the seconds that each task has left; those that still hold."""
    rows = await connection.fetch(
        """
        update tasks
        set claimed_until = now() + make_interval(secs => $3), seconds_left = held.seconds_left
        from unnest($1::uuid[], $2::real[]) as held (claim, seconds_left)
        where tasks.claim = held.claim and tasks.claimed_until is not null
        returning tasks.claim
        """,
        list(held),
        list(held.values()),
        LEASE_SECONDS,
    )
    return {row["claim"] for row in rows}


async def fail_former_turn(connection: Connection, task: ClaimedTask) -> None:
    """Ends the turn of whoever had the task before, so that nothing of it is written any more."""
    await connection.execute(
        """
        update turns
        set status = 'failed', ended_at = now(), error_code = 'interrupted',
            error = 'The turn was interrupted: its task was taken up by another worker'
        where tenant_id = $1 and id = $2 and status = 'running'
        """,
        task.tenant_id,
        task.turn_id,
    )


async def begin_turn(connection: Connection, task: ClaimedTask, session_id: str, turn_id: str) -> bool:
    """The turn in which the task is worked on now; False when the claim is lost."""
    row = await connection.fetchrow(
        """
        update tasks set session_id = $4, turn_id = $5, message = null
        where tenant_id = $1 and id = $2 and claim = $3
        returning id
        """,
        task.tenant_id,
        task.id,
        task.claim,
        session_id,
        turn_id,
    )
    return row is not None


async def complete(connection: Connection, task: ClaimedTask, result: str) -> bool:
    """False when the claim is lost."""
    row = await connection.fetchrow(
        """
        update tasks
        set status = 'completed', result = $4, error = null, question = null, message = null, claim = null,
            claimed_until = null, updated_at = now(), completed_at = now()
        where tenant_id = $1 and id = $2 and claim = $3
        returning id
        """,
        task.tenant_id,
        task.id,
        task.claim,
        result,
    )
    return row is not None


async def fail(connection: Connection, task: ClaimedTask, error: str) -> bool:
    """False when the claim is lost."""
    row = await connection.fetchrow(
        """
        update tasks
        set status = 'failed', error = $4, question = null, claim = null, claimed_until = null,
            updated_at = now(), completed_at = now()
        where tenant_id = $1 and id = $2 and claim = $3
        returning id
        """,
        task.tenant_id,
        task.id,
        task.claim,
        error,
    )
    return row is not None


async def park(connection: Connection, task: ClaimedTask, question: str, seconds_left: float) -> bool:
    """Leaves the task to its user, whose answer hands it back; False when the claim is lost."""
    row = await connection.fetchrow(
        """
        update tasks
        set status = 'needs_input', question = $4, message = null, claim = null, claimed_until = null,
            seconds_left = $5, updated_at = now()
        where tenant_id = $1 and id = $2 and claim = $3
        returning id
        """,
        task.tenant_id,
        task.id,
        task.claim,
        question,
        seconds_left,
    )
    return row is not None


async def release(
    connection: Connection,
    task: ClaimedTask,
    *,
    seconds_left: float,
    after_seconds: float,
    counts: bool = False,
) -> bool:
    """Gives the task up for others to go on with, as if it had not been taken unless it `counts` as an attempt.

    False when the claim is lost.
    """
    row = await connection.fetchrow(
        """
        update tasks
        set status = 'in_progress', claim = null, claimed_until = now() + make_interval(secs => $5),
            attempts = attempts - case when $6 then 0 else 1 end, seconds_left = $4
        where tenant_id = $1 and id = $2 and claim = $3
        returning id
        """,
        task.tenant_id,
        task.id,
        task.claim,
        seconds_left,
        after_seconds,
        counts,
    )
    return row is not None


async def count_any(connection: Connection) -> dict[str, int]:
    """How many tasks of all tenants there are in each state that is not the last."""
    rows: Sequence[tuple[str, int]] = await connection.fetch(
        """
        select status, count(*) as tasks from tasks
        where status not in ('completed', 'failed', 'cancelled')
        group by status
        """
    )
    return {row[0]: row[1] for row in rows}
