"""Steering tasks: changed before they begin, moved from state to state by hand, answered and ended."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from weir.agent_engine import confirmations, sessions
from weir.agent_engine.naming import invalid
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import tasks
from weir.agent_engine.tables.tasks import Ended, Status, TaskRow
from weir.agent_engine.tasks import (
    NEXT,
    NOT_BEGUN,
    TOPIC,
    agent_named,
    check_blockers,
    detail_of,
    lock_task,
    told,
)
from weir.agent_engine.wire.tasks import TaskChange, TaskDetail, TaskInput
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Connection
from weir_shared.errors import Conflict, InvalidRequest

Check = Callable[[Connection, TaskRow], Awaitable[None]]


class WrongTransition(InvalidRequest):
    def __init__(self, task: TaskRow, wanted: Status) -> None:
        super().__init__(_no_way(task, wanted))


class TaskSettled(Conflict):
    """What cannot be done to a task in its present state."""


async def change_task(studio: Studio, principal: Principal, id: str, change: TaskChange) -> TaskDetail:
    """What is left out stays; only the priority of a task that has begun can change."""
    tenant_id = principal.tenant_id
    async with studio.database.tenant(tenant_id) as connection:
        if change.blocked_by is not UNSET:
            # All that could close a circle is held from here on, so that no other change closes it meanwhile.
            await tasks.lock_blockers(connection, tenant_id, [*change.blocked_by, id])
        row = await lock_task(connection, principal, id)
        if row.status not in NOT_BEGUN:
            raise TaskSettled(f"The task is {row.status}: only one that has not begun can be changed")
        row = _merged(row, change)
        if change.blocked_by is not UNSET:
            await check_blockers(connection, principal, row.blocked_by)
            if await tasks.waits_for(connection, tenant_id, row.blocked_by, row.id):
                raise invalid("blocked_by", "the tasks would wait for one another in a circle")
        row = await tasks.change(connection, tenant_id, row)
    await studio.doorbell.notify(TOPIC)
    return detail_of(row)


async def set_priority(studio: Studio, principal: Principal, id: str, priority: int) -> TaskDetail:
    """Raises TaskSettled for a task that has ended."""
    async with studio.database.tenant(principal.tenant_id) as connection:
        row = await lock_task(connection, principal, id)
        if not NEXT[row.status]:
            raise TaskSettled(f"The task is {row.status}; its priority means nothing any more")
        row = await tasks.change(connection, principal.tenant_id, replace(row, priority=priority))
    return detail_of(row)


async def assign_task(studio: Studio, principal: Principal, id: str, agent: str) -> TaskDetail:
    """Gives a task that has not begun to an agent, which works on it as soon as it is ready."""
    async with studio.database.tenant(principal.tenant_id) as connection:
        row = await lock_task(connection, principal, id)
        if row.status not in NOT_BEGUN:
            raise TaskSettled(f"The task is {row.status}: only one that has not begun can be assigned")
        agent_id, name = await agent_named(connection, principal.tenant_id, agent)
        assigned = replace(row, agent_id=agent_id, agent=name, is_automatic=True)
        row = await tasks.change(connection, principal.tenant_id, assigned)
    await studio.doorbell.notify(TOPIC)
    return detail_of(row)


async def approve_task(studio: Studio, principal: Principal, id: str) -> TaskDetail:
    return await _move(studio, principal, id, "approved")


async def start_task(studio: Studio, principal: Principal, id: str) -> TaskDetail:
    """Takes a task out of the workers' hands: whoever starts it also ends it."""

    async def refuse_blocked(connection: Connection, row: TaskRow) -> None:
        if open_ones := await tasks.unfinished(connection, principal.tenant_id, row.blocked_by):
            raise TaskSettled(f"The task waits for {', '.join(open_ones)}")

    return await _move(studio, principal, id, "in_progress", check=refuse_blocked)


async def complete_task(studio: Studio, principal: Principal, id: str, result: str | None) -> TaskDetail:
    return await _move(studio, principal, id, "completed", result=result)


async def fail_task(studio: Studio, principal: Principal, id: str, reason: str) -> TaskDetail:
    if not reason.strip():
        raise invalid("reason", "a reason is required")
    return await _move(studio, principal, id, "failed", error=reason)


async def cancel_task(studio: Studio, principal: Principal, id: str, reason: str | None) -> TaskDetail:
    """Ends the task and all below it that have not ended; one that is cancelled already stays so.

    Raises TaskSettled for one that has ended otherwise.
    """
    tenant_id = principal.tenant_id
    async with studio.database.tenant(tenant_id) as connection:
        row = await lock_task(connection, principal, id)
        if row.status == "cancelled":
            return detail_of(row)
        if not NEXT[row.status]:
            raise TaskSettled(_no_way(row, "cancelled"))
        ended = [_ended(row)]
        row = await tasks.move(connection, tenant_id, row.id, "cancelled", error=reason or None)
        ended += await _cancel_dependents(connection, tenant_id, row.id, "cancelled")
    await told(studio, ["cancelled"] * len(ended))
    await _stop(studio, tenant_id, ended)
    return detail_of(row)


async def give_input(studio: Studio, principal: Principal, id: str, given: TaskInput) -> TaskDetail:
    """Answers what a task asks: a gate by a word of approval or anything else, a form by its answers.

    Raises TaskSettled when it asks nothing, or when nobody would hear the answer now.
    """
    if not given.input.strip():
        raise invalid("input", "input is required")
    tenant_id = principal.tenant_id
    async with studio.database.tenant(tenant_id) as connection:
        row = await lock_task(connection, principal, id)
        if row.status != "needs_input":
            raise TaskSettled(f"The task is {row.status}: it does not wait for input (needs_input)")
        if row.claim is None:
            row = await tasks.resume(connection, tenant_id, row.id, given.input)
            goes_on = True
        else:
            assert row.turn_id is not None and row.session_id is not None
            await _answer(connection, principal, row, given.input)
            goes_on = await tasks.end_waiting(connection, tenant_id, row.turn_id)
            row = await tasks.find(connection, tenant_id, row.id) or row
    if row.session_id is not None:
        await studio.doorbell.notify(sessions.topic_of(row.session_id))
    await told(studio, ["in_progress"] * goes_on)
    return detail_of(row)


async def doom_dependents(connection: Connection, tenant_id: str, id: str) -> list[Ended]:
    """What waits for a task that has failed is cancelled with it, in the same unit of work."""
    return await _cancel_dependents(connection, tenant_id, id, "failed")


def _merged(row: TaskRow, change: TaskChange) -> TaskRow:
    said: dict[str, Any] = {
        name: value
        for name in ("title", "description", "acceptance_criteria", "blocked_by", "priority")
        if (value := getattr(change, name)) is not UNSET
    }
    if not said.get("title", row.title).strip():
        raise invalid("title", "title is required")
    return replace(row, **said)


async def _move(
    studio: Studio,
    principal: Principal,
    id: str,
    wanted: Status,
    *,
    result: str | None = None,
    error: str | None = None,
    check: Check | None = None,
) -> TaskDetail:
    """Raises NotFound, and WrongTransition, which names both states."""
    tenant_id = principal.tenant_id
    async with studio.database.tenant(tenant_id) as connection:
        row = await lock_task(connection, principal, id)
        if wanted not in NEXT[row.status] or (row.status == "needs_input" and wanted == "in_progress"):
            raise WrongTransition(row, wanted)
        if check is not None:
            await check(connection, row)
        ended = [_ended(row)]
        row = await tasks.move(connection, tenant_id, row.id, wanted, result=result, error=error)
        doomed = await doom_dependents(connection, tenant_id, row.id) if wanted == "failed" else []
    await told(studio, [wanted, *("cancelled" for _ in doomed)])
    if not NEXT[wanted]:
        await _stop(studio, tenant_id, [*ended, *doomed])
    return detail_of(row)


async def _answer(connection: Connection, principal: Principal, row: TaskRow, text: str) -> None:
    """Answers the gate that has waited longest. Raises TaskSettled."""
    assert row.turn_id is not None and row.session_id is not None
    call_id = await tasks.pending_confirmation(connection, principal.tenant_id, row.turn_id)
    if call_id is None or not await confirmations.answer(
        connection, principal, row.session_id, call_id, [text]
    ):
        raise TaskSettled("The worker that asked is gone; the question will be asked again shortly")


async def _stop(studio: Studio, tenant_id: str, ended: Iterable[Ended]) -> None:
    """Ends the turns of tasks that were ended while they were worked on, wherever they run."""
    stops = [
        sessions.stop_turn(studio, tenant_id, task.session_id, task.turn_id)
        for task in ended
        if task.was_running and task.session_id is not None and task.turn_id is not None
    ]
    await asyncio.gather(*stops)


def _ended(row: TaskRow) -> Ended:
    return Ended(
        id=row.id,
        session_id=row.session_id,
        turn_id=row.turn_id,
        was_running=row.status in ("in_progress", "needs_input"),
    )


def _no_way(task: TaskRow, wanted: Status) -> str:
    ways = ", ".join(sorted(NEXT[task.status])) or "nothing: it has ended"
    return f"The task cannot go from {task.status} to {wanted}; from {task.status} it can go to {ways}"


async def _cancel_dependents(connection: Connection, tenant_id: str, id: str, status: Status) -> list[Ended]:
    """Until nothing is found any more: whoever was about to add to what is cancelled has done so by then."""
    error = f"The task {id}, on which this one hangs, is {status}"
    ended: list[Ended] = []
    while found := await tasks.cancel_dependents(
        connection, tenant_id, id, error, with_subtasks=status == "cancelled"
    ):
        ended += found
    return ended
