"""Tasks: work for an agent that nobody waits for. Created and read here; `task_steering` moves them, workers do them."""

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

import structlog
from msgspec import Struct
from msgspec.structs import replace

from weir.agent_engine import sessions
from weir.agent_engine.agents import find_agent
from weir.agent_engine.metrics import TASK_TRANSITIONS
from weir.agent_engine.naming import invalid, missing, unknown
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import agents, tasks
from weir.agent_engine.tables.tasks import NewTaskRow, Status, TaskFilter, TaskRow
from weir.agent_engine.wire.tasks import (
    DispatchedTask,
    NewTask,
    TaskDetail,
    TaskList,
    TaskSummary,
)
from weir_shared.auth.principal import Actor, Principal
from weir_shared.clock import rfc3339
from weir_shared.db.pool import Connection, Database, UniqueViolation
from weir_shared.errors import Conflict, NotFound, TooManyRequests
from weir_shared.web.filters import text_of

# Whoever works on tasks listens to it.
TOPIC = "tasks"
TASK_SECONDS = 1800.0
MOST_DEPTH = 10
# Of one tenant, that have not ended.
MOST_OPEN = 10_000
MAX_KEY = 128
TIMED_OUT = "The task took longer than its 30 minutes"

NEXT: dict[Status, frozenset[Status]] = {
    "draft": frozenset({"approved", "cancelled"}),
    "approved": frozenset({"in_progress", "cancelled"}),
    "pending": frozenset({"in_progress", "cancelled"}),
    "in_progress": frozenset({"completed", "failed", "needs_input", "cancelled"}),
    "needs_input": frozenset({"in_progress", "failed", "cancelled"}),
    "completed": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
NOT_BEGUN = frozenset({"draft", "approved", "pending"})
_LOST = frozenset({"failed", "cancelled"})
_DISPATCHED = {"in_progress": "running", "needs_input": "running", "completed": "completed"}

log = structlog.get_logger(__name__)


class KeyReused(Conflict):
    def __init__(self) -> None:
        super().__init__("This Idempotency-Key has been used for another task")


class QueueFull(TooManyRequests):
    def __init__(self) -> None:
        super().__init__(
            f"There are {MOST_OPEN} tasks already that have not ended; cancel some, or wait",
            code="queue_full",
            details={"retry_after": 30},
            headers={"Retry-After": "30"},
        )


class Origin(Struct, frozen=True, kw_only=True):
    """Where a task comes from, besides its content."""

    source: str = "api"
    session_id: str | None = None
    is_automatic: bool = True
    key: str | None = None
    request_hash: bytes | None = None


async def create_task(
    studio: Studio, principal: Principal, new: NewTask, origin: Origin | None = None
) -> TaskDetail:
    """Writes the task down and rings. Raises ValidationFailed, QueueFull and KeyReused."""
    tenant_id, origin = principal.tenant_id, origin or Origin()
    try:
        async with studio.database.tenant(tenant_id) as connection:
            row = await insert_task(connection, principal, new, origin)
    except UniqueViolation:
        return await _asked_again(studio.database, principal, new, origin)
    await told(studio, [row.status])
    return detail_of(row)


async def insert_task(connection: Connection, principal: Principal, new: NewTask, origin: Origin) -> TaskRow:
    """The task as a row, within somebody's unit of work."""
    tenant_id = principal.tenant_id
    if not new.title.strip():
        raise invalid("title", "title is required")
    agent_id, agent = await agent_named(connection, tenant_id, new.agent or new.agent_name)
    if await tasks.count_open(connection, tenant_id, MOST_OPEN) >= MOST_OPEN:
        raise QueueFull
    depth = await _depth(connection, principal, new.parent_task_id)
    await check_blockers(connection, principal, new.blocked_by)
    return await tasks.add(
        connection,
        tenant_id,
        NewTaskRow(
            id=f"task_{secrets.token_hex(12)}",
            owner=principal.identity,
            scopes=sorted(principal.scopes),
            agent_id=agent_id,
            agent=agent,
            title=new.title.strip(),
            description=new.description,
            acceptance_criteria=new.acceptance_criteria,
            mode=new.mode,
            priority=new.priority,
            source=origin.source,
            status=_first_status(new),
            parent_id=new.parent_task_id,
            depth=depth,
            blocked_by=list(dict.fromkeys(new.blocked_by)),
            is_automatic=origin.is_automatic,
            origin_session_id=origin.session_id,
            seconds_left=TASK_SECONDS,
            idempotency_key=origin.key,
            request_hash=origin.request_hash,
        ),
    )


async def list_tasks(
    database: Database, principal: Principal, wanted: TaskFilter, *, limit: int, offset: int
) -> TaskList:
    """Those of the caller, newest first; of the whole tenant for an administrator."""
    if not principal.is_admin:
        wanted = replace(wanted, owner=principal.identity)
    async with database.tenant(principal.tenant_id) as connection:
        rows, total = await tasks.page(connection, principal.tenant_id, wanted, limit=limit, offset=offset)
    return TaskList(
        tasks=[TaskSummary(**_summary(row)) for row in rows],
        total=total,
        limit=limit,
        offset=offset,
        page=offset // limit + 1,
        per_page=limit,
        total_pages=-(-total // limit),
    )


def filter_of(
    *, status: str | None, agent: str | None, source: str | None, parent_task_id: str | None
) -> TaskFilter:
    return TaskFilter(
        status=text_of(status),
        agent=text_of(agent),
        source=text_of(source),
        parent_id=text_of(parent_task_id),
    )


async def read_task(database: Database, principal: Principal, id: str) -> TaskDetail:
    """Raises NotFound, also for a task of somebody else."""
    async with database.tenant(principal.tenant_id) as connection:
        return detail_of(await find_task(connection, principal, id))


async def list_subtasks(database: Database, principal: Principal, id: str) -> list[TaskDetail]:
    async with database.tenant(principal.tenant_id) as connection:
        task = await find_task(connection, principal, id)
        return [detail_of(row) for row in await tasks.children(connection, principal.tenant_id, task.id)]


async def read_dispatched(database: Database, principal: Principal, id: str) -> DispatchedTask:
    async with database.tenant(principal.tenant_id) as connection:
        return _dispatched(await find_task(connection, principal, id))


async def list_dispatched(database: Database, principal: Principal, session_id: str) -> list[DispatchedTask]:
    """What was handed out in a session or is worked on in it, newest first. Raises NotFound."""
    async with database.tenant(principal.tenant_id) as connection:
        session = await sessions.find_session(connection, principal, session_id)
        wanted = TaskFilter(
            owner=None if principal.is_admin else principal.identity, origin_session_id=session.id
        )
        rows, _ = await tasks.page(connection, principal.tenant_id, wanted, limit=1000, offset=0)
    return [_dispatched(row) for row in rows]


def detail_of(row: TaskRow) -> TaskDetail:
    return TaskDetail(
        **_summary(row),
        description=row.description,
        acceptance_criteria=row.acceptance_criteria,
        assigned_agent_id=row.agent_id,
        trigger_id=row.trigger_id,
        result=row.result,
    )


def principal_of(tenant_id: str, owner: str, scopes: Iterable[str]) -> Principal:
    """The caller who asked for a task, with the authority of then."""
    actors: tuple[Actor, ...] = ("user", "api_token", "system")
    actor, _, subject = owner.partition(":")
    return Principal(
        tenant_id=tenant_id,
        subject=subject,
        actor=next(known for known in actors if known == actor),
        scopes=frozenset(scopes),
    )


def count_transitions(statuses: Iterable[str]) -> None:
    for status in statuses:
        TASK_TRANSITIONS.labels(status).inc()


async def _asked_again(database: Database, principal: Principal, new: NewTask, origin: Origin) -> TaskDetail:
    """The answer that the first request of this key had. Raises KeyReused for another request."""
    assert origin.key is not None
    async with database.tenant(principal.tenant_id) as connection:
        row = await tasks.find_by_key(connection, principal.tenant_id, principal.identity, origin.key)
    if row is None or row.request_hash != origin.request_hash:
        raise KeyReused
    first = replace(
        row,
        status=_first_status(new),
        priority=new.priority,
        session_id=None,
        question=None,
        result=None,
        error=None,
        updated_at=row.created_at,
        approved_at=None,
        started_at=None,
        completed_at=None,
    )
    return detail_of(first)


def _first_status(new: NewTask) -> Status:
    return "draft" if new.require_approval else "pending"


async def agent_named(connection: Connection, tenant_id: str, named: str | None) -> tuple[str, str]:
    """Id and name. Raises ValidationFailed."""
    if not named:
        raise invalid("agent", "agent is required: the name of the agent that does the task")
    try:
        row = await find_agent(connection, tenant_id, named)
    except NotFound:
        known = [one.name for one in await agents.every(connection, tenant_id)]
        raise unknown("agent", "agent", named, known) from None
    return row.id, row.name


async def _depth(connection: Connection, principal: Principal, parent_id: str | None) -> int:
    """Raises ValidationFailed for a parent that is not there, has ended, or lies too deep."""
    if parent_id is None:
        return 1
    owner = None if principal.is_admin else principal.identity
    held = await tasks.hold(connection, principal.tenant_id, owner, [parent_id])
    parent = await tasks.find(connection, principal.tenant_id, parent_id) if held else None
    if parent is None:
        raise invalid("parent_task_id", f"there is no task '{parent_id[:100]}'")
    if not NEXT[parent.status]:
        raise invalid("parent_task_id", f"the task '{parent_id}' is {parent.status}")
    if parent.depth >= MOST_DEPTH:
        raise invalid("parent_task_id", f"tasks hang below one another at most {MOST_DEPTH} deep")
    return parent.depth + 1


async def check_blockers(connection: Connection, principal: Principal, ids: Sequence[str]) -> None:
    """Raises ValidationFailed for blockers that are not there, or will never be completed."""
    if not ids:
        return
    owner = None if principal.is_admin else principal.identity
    held = await tasks.hold(connection, principal.tenant_id, owner, ids)
    for place, id in enumerate(ids):
        if id not in held:
            raise invalid(f"blocked_by.{place}", f"there is no task '{id[:100]}'")
        if held[id] in _LOST:
            raise invalid(f"blocked_by.{place}", f"the task '{id}' is {held[id]} and will not be completed")


async def told(studio: Studio, statuses: Sequence[str]) -> None:
    """After the ink is dry."""
    count_transitions(statuses)
    await studio.doorbell.notify(TOPIC)


async def find_task(connection: Connection, principal: Principal, id: str) -> TaskRow:
    return _visible(await tasks.find(connection, principal.tenant_id, _written(id)), principal, id)


async def lock_task(connection: Connection, principal: Principal, id: str) -> TaskRow:
    return _visible(await tasks.lock(connection, principal.tenant_id, _written(id)), principal, id)


def _visible(row: TaskRow | None, principal: Principal, id: str) -> TaskRow:
    """Raises NotFound for what is not there, or not the caller's to see."""
    if row is None or not (principal.is_admin or row.owner == principal.identity):
        raise missing("task", id)
    return row


def _written(id: str) -> str:
    """No row holds a NUL, and asking for one finds nothing."""
    return id.replace("\0", "\ufffd")


def _dispatched(row: TaskRow) -> DispatchedTask:
    state: Any = _DISPATCHED.get(row.status, "failed" if row.status in _LOST else "pending")
    return DispatchedTask(
        id=row.id,
        agent_name=row.agent,
        task=text_of_task(row.title, row.description, row.acceptance_criteria),
        session_id=row.session_id,
        state="timeout" if row.error == TIMED_OUT else state,
        result=row.result,
        error=row.error,
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
    )


def text_of_task(title: str, description: str, criteria: Sequence[str]) -> str:
    """The task as its agent is told it."""
    parts = [title, description]
    if criteria:
        parts.append("It is done when:\n" + "\n".join(f"- {one}" for one in criteria))
    return "\n\n".join(part for part in parts if part.strip())


def _summary(row: TaskRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "task_id": row.id,
        "agent": row.agent,
        "agent_name": row.agent,
        "title": row.title,
        "status": row.status,
        "source": row.source,
        "priority": row.priority,
        "mode": row.mode,
        "parent_task_id": row.parent_id,
        "blocked_by": row.blocked_by,
        "session_id": row.session_id,
        "question": row.question,
        "error": row.error,
        "created_by": row.owner.partition(":")[2],
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
        "approved_at": row.approved_at and rfc3339(row.approved_at),
        "started_at": row.started_at and rfc3339(row.started_at),
        "completed_at": row.completed_at and rfc3339(row.completed_at),
    }
