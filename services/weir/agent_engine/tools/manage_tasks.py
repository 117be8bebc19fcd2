"""Tasks as a tool: an agent writes down what is to be done, hands some of it to others, and keeps count."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from weir.agent_engine import task_steering, tasks
from weir.agent_engine.models.base import ToolDefinition
from weir.agent_engine.signals import ToolFailed
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables.tasks import TaskFilter
from weir.agent_engine.tasks import Origin
from weir.agent_engine.tools.base import Call
from weir.agent_engine.wire.tasks import (
    Blockers,
    Criteria,
    Description,
    NewTask,
    Priority,
    TaskChange,
    TaskDetail,
    TaskId,
    TaskSummary,
    Title,
)
from weir_shared.auth.principal import Principal
from weir_shared.errors import WeirError

NAME = "manage_tasks"
MOST_AT_ONCE = 20
SHOWN_CHARACTERS = 4000
_Value = TypeVar("_Value")
_APPROVAL = "A person approves tasks; you cannot"
_ACTIONS = (
    "create, create_subtask, update, get, list, list_subtasks, get_ready, get_next, start, complete, fail, "
    "cancel, set_status, set_priority, assign"
)


class Place(Struct, frozen=True, kw_only=True):
    """Where the tool is used: in which session, by which agent, and for which task if for one."""

    session_id: str
    task_id: str | None
    agent: str


class Item(Struct, frozen=True, kw_only=True):
    """One task to create; with an `agent_id` that agent works on it, without one it is a note of the creator's."""

    title: Title
    description: Description = ""
    acceptance_criteria: Criteria = []
    priority: Priority = 0
    blocked_by: Blockers = []
    agent_id: str | None = None
    parent_task_id: TaskId | None = None
    require_approval: bool = False


class Arguments(Struct, frozen=True, kw_only=True):
    action: str
    tasks: list[Item] | None = None
    task_id: TaskId | None = None
    parent_task_id: TaskId | None = None
    title: Title | None = None
    description: Description | None = None
    acceptance_criteria: Criteria | None = None
    status: str | None = None
    result: str | None = None
    reason: str | None = None
    priority: Priority | None = None
    blocked_by: Blockers | None = None
    agent_id: str | None = None
    require_approval: bool = False


class ManageTasks:
    """Works with the caller's own tasks, as the caller could."""

    definition = ToolDefinition(
        name=NAME,
        description=(
            "Keeps tasks. A task with an agent_id (the agent's name) is worked on by that agent in the background, "
            "with the caller's authority; it sees nothing of this conversation but title and description, and its "
            "result is read later with get. A task without one is a note of yours, which you start and complete. "
            "While you work on a task, what you create hangs below it."
        ),
        parameters={
            "type": "object",
            "properties": {
                "action": {"type": "string", "description": f"One of {_ACTIONS}."},
                "tasks": {
                    "type": "array",
                    "description": f"create: up to {MOST_AT_ONCE} tasks, each with title, description and so on.",
                    "items": {"type": "object"},
                },
                "task_id": {"type": "string"},
                "parent_task_id": {"type": "string", "description": "create_subtask, list_subtasks."},
                "title": {"type": "string"},
                "description": {"type": "string"},
                "acceptance_criteria": {"type": "array", "items": {"type": "string"}},
                "status": {"type": "string", "description": "set_status, and a filter of list."},
                "result": {"type": "string", "description": "complete: what came of it."},
                "reason": {"type": "string", "description": "fail, cancel: why."},
                "priority": {"type": "integer", "description": "0 normal, 1 high, 2 critical."},
                "blocked_by": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "Ids of tasks to wait for.",
                },
                "agent_id": {"type": "string", "description": "The agent that does it, by name or id."},
                "require_approval": {"type": "boolean", "description": "A person approves it first."},
            },
            "required": ["action"],
        },
    )

    def __init__(self, studio: Studio, principal: Principal, place: Place) -> None:
        self._studio = studio
        self._principal = principal
        self._place = place
        self._actions: dict[str, Callable[[Arguments], Awaitable[Any]]] = {
            "create": self._create,
            "create_subtask": self._create_subtask,
            "update": self._update,
            "get": self._get,
            "list": self._list,
            "list_subtasks": self._list_subtasks,
            "get_ready": self._get_ready,
            "get_next": self._get_next,
            "start": self._start,
            "complete": self._complete,
            "fail": self._fail,
            "cancel": self._cancel,
            "set_status": self._set_status,
            "set_priority": self._set_priority,
            "assign": self._assign,
        }

    async def run(self, call: Call) -> str:
        try:
            asked = msgspec.convert(call.arguments, Arguments)
        except msgspec.ValidationError as fault:
            raise ToolFailed(f"{NAME}: {fault}") from None
        if asked.action == "approve":
            raise ToolFailed(_APPROVAL)
        action = self._actions.get(asked.action)
        if action is None:
            raise ToolFailed(f"{NAME} has no action '{asked.action[:100]}'; the actions are {_ACTIONS}")
        try:
            return msgspec.json.encode(await action(asked)).decode()
        except WeirError as fault:
            raise ToolFailed(fault.message) from None

    async def _create(self, asked: Arguments) -> Any:
        items = asked.tasks if asked.tasks is not None else [self._item(asked)]
        if not 1 <= len(items) <= MOST_AT_ONCE:
            raise ToolFailed(f"create takes 1 to {MOST_AT_ONCE} tasks at once")
        created = [await self._add(item, item.parent_task_id or self._place.task_id) for item in items]
        return {"created": [_shown(task) for task in created]}

    async def _create_subtask(self, asked: Arguments) -> Any:
        parent = _needed(asked.parent_task_id, "parent_task_id")
        return _shown(await self._add(self._item(asked), parent))

    async def _add(self, item: Item, parent_id: str | None) -> TaskDetail:
        new = NewTask(
            title=_clean(item.title),
            description=_clean(item.description),
            acceptance_criteria=[_clean(one) for one in item.acceptance_criteria],
            agent=item.agent_id or self._place.agent,
            priority=item.priority,
            blocked_by=item.blocked_by,
            parent_task_id=parent_id,
            require_approval=item.require_approval,
        )
        origin = Origin(
            source="agent", session_id=self._place.session_id, is_automatic=item.agent_id is not None
        )
        return await tasks.create_task(self._studio, self._principal, new, origin)

    def _item(self, asked: Arguments) -> Item:
        return Item(
            title=_needed(asked.title, "title"),
            description=asked.description or "",
            acceptance_criteria=asked.acceptance_criteria or [],
            priority=asked.priority or 0,
            blocked_by=asked.blocked_by or [],
            agent_id=asked.agent_id,
            parent_task_id=asked.parent_task_id,
            require_approval=asked.require_approval,
        )

    async def _update(self, asked: Arguments) -> Any:
        said = {
            name: value
            for name in ("title", "description", "acceptance_criteria", "blocked_by", "priority")
            if (value := getattr(asked, name)) is not None
        }
        change = msgspec.convert(msgspec.json.decode(_clean(msgspec.json.encode(said).decode())), TaskChange)
        return _shown(await task_steering.change_task(self._studio, self._principal, _id(asked), change))

    async def _get(self, asked: Arguments) -> Any:
        task = await tasks.read_task(self._studio.database, self._principal, _id(asked))
        return _shown(task) | {
            "description": task.description,
            "acceptance_criteria": task.acceptance_criteria,
            "result": task.result and _cut(task.result),
        }

    async def _list(self, asked: Arguments) -> Any:
        return {"tasks": [_shown(task) for task in await self._own(asked.status)]}

    async def _list_subtasks(self, asked: Arguments) -> Any:
        parent = _needed(asked.parent_task_id or asked.task_id, "parent_task_id")
        found = await tasks.list_subtasks(self._studio.database, self._principal, parent)
        return {"tasks": [_shown(task) for task in found]}

    async def _get_ready(self, asked: Arguments) -> Any:
        return {"tasks": [_shown(task) for task in await self._ready()]}

    async def _get_next(self, asked: Arguments) -> Any:
        begun = await self._own("in_progress")
        following = [*reversed(begun), *sorted(await self._ready(), key=lambda task: -task.priority)]
        return _shown(following[0]) if following else {"task": None}

    async def _ready(self) -> list[TaskSummary]:
        """Oldest first."""
        own = await self._own(None)
        completed = {task.id for task in own if task.status == "completed"}
        return [
            task
            for task in reversed(own)
            if task.status in ("pending", "approved") and completed.issuperset(task.blocked_by)
        ]

    async def _own(self, status: str | None) -> list[TaskSummary]:
        """What was created in this session, newest first."""
        wanted = TaskFilter(status=status, origin_session_id=self._place.session_id)
        page = await tasks.list_tasks(self._studio.database, self._principal, wanted, limit=200, offset=0)
        return page.tasks

    async def _start(self, asked: Arguments) -> Any:
        return _shown(await task_steering.start_task(self._studio, self._principal, _id(asked)))

    async def _complete(self, asked: Arguments) -> Any:
        result = None if asked.result is None else _clean(asked.result)
        return _shown(
            await task_steering.complete_task(self._studio, self._principal, self._other(asked), result)
        )

    async def _fail(self, asked: Arguments) -> Any:
        reason = _clean(_needed(asked.reason, "reason"))
        return _shown(
            await task_steering.fail_task(self._studio, self._principal, self._other(asked), reason)
        )

    async def _cancel(self, asked: Arguments) -> Any:
        reason = asked.reason and _clean(asked.reason)
        return _shown(
            await task_steering.cancel_task(self._studio, self._principal, self._other(asked), reason)
        )

    async def _set_status(self, asked: Arguments) -> Any:
        if asked.status == "approved":
            raise ToolFailed(_APPROVAL)
        ways = {
            "in_progress": self._start,
            "completed": self._complete,
            "failed": self._fail,
            "cancelled": self._cancel,
        }
        way = ways.get(asked.status or "")
        if way is None:
            raise ToolFailed(f"set_status takes `status`: one of {', '.join(ways)}")
        return await way(asked)

    async def _set_priority(self, asked: Arguments) -> Any:
        priority = _needed(asked.priority, "priority")
        return _shown(await task_steering.set_priority(self._studio, self._principal, _id(asked), priority))

    async def _assign(self, asked: Arguments) -> Any:
        agent = _needed(asked.agent_id, "agent_id")
        return _shown(await task_steering.assign_task(self._studio, self._principal, _id(asked), agent))

    def _other(self, asked: Arguments) -> str:
        """The id of a task to end. Raises ToolFailed for the one that is being worked on: its end is the answer."""
        id = _id(asked)
        if id == self._place.task_id:
            raise ToolFailed("You are working on this task: it ends with your answer")
        return id


def _id(asked: Arguments) -> str:
    return _needed(asked.task_id, "task_id")


def _needed(value: _Value | None, name: str) -> _Value:
    if value is None or value == "":
        raise ToolFailed(f"{NAME} needs `{name}` for this action")
    return value


def _shown(task: TaskSummary) -> dict[str, Any]:
    """What a model needs of a task, and nothing that is empty."""
    fields = {
        "task_id": task.id,
        "title": task.title,
        "status": task.status,
        "agent": task.agent,
        "priority": task.priority,
        "parent_task_id": task.parent_task_id,
        "blocked_by": task.blocked_by,
        "question": task.question,
        "error": task.error and _cut(task.error),
    }
    return {name: value for name, value in fields.items() if value not in (None, [])}


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} … (cut)"


def _clean(text: str) -> str:
    """Postgres keeps no NUL."""
    return text.replace("\0", "\ufffd")
