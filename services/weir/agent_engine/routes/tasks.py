"""/api/v1/tasks, and the same tasks as something dispatched"""

import hashlib
from typing import Annotated, Any, TypeVar

import msgspec
from litestar import Request, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody

from weir.agent_engine import sessions, task_steering, tasks
from weir.agent_engine.naming import invalid, refused
from weir.agent_engine.studio import Studio
from weir.agent_engine.tasks import MAX_KEY, Origin
from weir.agent_engine.wire.tasks import (
    DispatchedTask,
    NewTask,
    TaskChange,
    TaskDetail,
    TaskFailure,
    TaskInput,
    TaskList,
    TaskPriority,
    TaskReason,
    TaskResult,
)
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.errors import InvalidRequest
from weir_shared.web.bodies import field_faults

GUARDS = [requires_scope("tasks")]
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="The same request again has the same answer and makes no second task",
    ),
]
_Sent = TypeVar("_Sent", TaskResult, TaskReason)


@post("/tasks", guards=GUARDS)
async def create_task(
    request: Request[Any, Any, Any],
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    data: JSONBody[NewTask],
    idempotency_key: IdempotencyKey = None,
) -> TaskDetail:
    """Gives an agent a task; a worker takes it up as soon as it is ready."""
    return await tasks.create_task(studio, principal, data, await _origin(request, idempotency_key))


@get("/tasks", guards=GUARDS)
async def list_tasks(
    *,
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    status: FromQuery[str | None] = None,
    agent: FromQuery[str | None] = None,
    agent_name: FromQuery[str | None] = None,
    source: FromQuery[str | None] = None,
    parent_task_id: FromQuery[str | None] = None,
    limit: FromQuery[int] = sessions.DEFAULT_LIMIT,
    offset: FromQuery[int] = 0,
    page: FromQuery[int | None] = None,
    per_page: FromQuery[int | None] = None,
) -> TaskList:
    """The caller's tasks, newest first; an administrator sees the tenant's."""
    wanted = tasks.filter_of(
        status=status, agent=agent or agent_name, source=source, parent_task_id=parent_task_id
    )
    limit, offset = sessions.bounds(limit, offset, page, per_page)
    return await tasks.list_tasks(studio.database, principal, wanted, limit=limit, offset=offset)


@get("/tasks/{task_id:str}", guards=GUARDS)
async def read_task(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], task_id: FromPath[str]
) -> TaskDetail:
    """One task with its result, or with why it failed."""
    return await tasks.read_task(studio.database, principal, task_id)


@patch("/tasks/{task_id:str}", guards=GUARDS)
async def change_task(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    task_id: FromPath[str],
    data: JSONBody[TaskChange],
) -> TaskDetail:
    """Says anew what a task is about, while nobody works on it; what is left out stays."""
    return await task_steering.change_task(studio, principal, task_id, data)


@delete("/tasks/{task_id:str}", guards=GUARDS, status_code=200)
async def cancel_task(
    request: Request[Any, Any, Any],
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    task_id: FromPath[str],
) -> TaskDetail:
    """Cancels a task that has not ended, and all its subtasks; `reason` may be sent in a body."""
    said = await _sent(request, TaskReason)
    return await task_steering.cancel_task(studio, principal, task_id, said.reason)


@get("/tasks/{task_id:str}/subtasks", guards=GUARDS)
async def list_subtasks(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], task_id: FromPath[str]
) -> list[TaskDetail]:
    """What hangs directly below a task, oldest first."""
    return await tasks.list_subtasks(studio.database, principal, task_id)


@post("/tasks/{task_id:str}/approve", guards=GUARDS, status_code=200)
async def approve_task(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], task_id: FromPath[str]
) -> TaskDetail:
    """Releases a draft to the workers."""
    return await task_steering.approve_task(studio, principal, task_id)


@post("/tasks/{task_id:str}/start", guards=GUARDS, status_code=200)
async def start_task(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], task_id: FromPath[str]
) -> TaskDetail:
    """Takes a task that waits out of the workers' hands; whoever starts it completes or fails it."""
    return await task_steering.start_task(studio, principal, task_id)


@post("/tasks/{task_id:str}/complete", guards=GUARDS, status_code=200)
async def complete_task(
    request: Request[Any, Any, Any],
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    task_id: FromPath[str],
) -> TaskDetail:
    """Completes a task by hand; `result` may be sent in a body. An agent that works on it is stopped."""
    said = await _sent(request, TaskResult)
    return await task_steering.complete_task(studio, principal, task_id, said.result)


@post("/tasks/{task_id:str}/fail", guards=GUARDS, status_code=200)
async def fail_task(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    task_id: FromPath[str],
    data: JSONBody[TaskFailure],
) -> TaskDetail:
    """Fails a task by hand; what waits for it is cancelled. An agent that works on it is stopped."""
    return await task_steering.fail_task(studio, principal, task_id, data.reason)


@post("/tasks/{task_id:str}/priority", guards=GUARDS, status_code=200)
async def set_priority(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    task_id: FromPath[str],
    data: JSONBody[TaskPriority],
) -> TaskDetail:
    """0 normal, 1 high, 2 critical."""
    return await task_steering.set_priority(studio, principal, task_id, data.priority)


@post("/tasks/{task_id:str}/input", guards=GUARDS, status_code=200)
async def give_input(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    task_id: FromPath[str],
    data: JSONBody[TaskInput],
) -> TaskDetail:
    """Answers what a task asks, which goes on then."""
    return await task_steering.give_input(studio, principal, task_id, data)


@get("/dispatch/tasks/{task_id:str}", guards=GUARDS)
async def read_dispatched(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], task_id: FromPath[str]
) -> DispatchedTask:
    """One task as its outcome."""
    return await tasks.read_dispatched(studio.database, principal, task_id)


@get("/sessions/{session_id:str}/dispatch-tasks", guards=GUARDS)
async def list_dispatched(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], session_id: FromPath[str]
) -> list[DispatchedTask]:
    """The tasks that were created in a session or are worked on in it, newest first."""
    return await tasks.list_dispatched(studio.database, principal, session_id)


ROUTES = [
    create_task,
    list_tasks,
    read_task,
    change_task,
    cancel_task,
    list_subtasks,
    approve_task,
    start_task,
    complete_task,
    fail_task,
    set_priority,
    give_input,
    read_dispatched,
    list_dispatched,
]


async def _origin(request: Request[Any, Any, Any], key: str | None) -> Origin:
    """Raises ValidationFailed."""
    if key is None:
        return Origin()
    if not 1 <= len(key) <= MAX_KEY or "\0" in key:
        raise invalid("Idempotency-Key", f"Idempotency-Key must be 1 to {MAX_KEY} characters")
    return Origin(key=key, request_hash=hashlib.sha256(await request.body()).digest())


async def _sent(request: Request[Any, Any, Any], kind: type[_Sent]) -> _Sent:
    """A body that may be left out. Raises InvalidRequest."""
    body = await request.body()
    if not body.strip():
        return kind()
    if faults := field_faults(body, kind):
        raise refused(faults)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise InvalidRequest("The body must be a JSON object") from None
