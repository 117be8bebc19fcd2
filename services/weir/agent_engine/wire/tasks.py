"""Tasks on the wire; `agent` and `agent_name`, `id` and `task_id` are two words for one thing."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Title = Annotated[str, Meta(min_length=1, max_length=256)]
Description = Annotated[str, Meta(max_length=8192)]
Criteria = Annotated[list[Annotated[str, Meta(min_length=1, max_length=512)]], Meta(max_length=64)]
TaskId = Annotated[str, Meta(max_length=100)]
Blockers = Annotated[list[TaskId], Meta(max_length=32)]
Priority = Annotated[int, Meta(ge=0, le=2)]
Mode = Literal["interactive", "background"]
Text = Annotated[str, Meta(max_length=200_000)]


class NewTask(Struct, frozen=True, kw_only=True):
    title: Title
    agent: str | None = None
    agent_name: str | None = None
    description: Description = ""
    mode: Mode = "background"
    priority: Priority = 0
    acceptance_criteria: Criteria = []
    blocked_by: Blockers = []
    parent_task_id: TaskId | None = None
    require_approval: bool = False


class TaskChange(Struct, frozen=True, kw_only=True):
    title: Title | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    acceptance_criteria: Criteria | UnsetType = UNSET
    blocked_by: Blockers | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET


class TaskInput(Struct, frozen=True, kw_only=True):
    input: Annotated[str, Meta(min_length=1, max_length=200_000)]


class TaskPriority(Struct, frozen=True, kw_only=True):
    priority: Priority


class TaskFailure(Struct, frozen=True, kw_only=True):
    reason: Annotated[str, Meta(min_length=1, max_length=2000)]


class TaskResult(Struct, frozen=True, kw_only=True):
    """What may be sent with the end of a task."""

    result: Text | None = None


class TaskReason(Struct, frozen=True, kw_only=True):
    reason: Annotated[str, Meta(max_length=2000)] | None = None


class TaskSummary(Struct, frozen=True, kw_only=True):
    """`question` is what a task in `needs_input` asks; `error` says why one failed or was cancelled."""

    id: str
    task_id: str
    agent: str
    agent_name: str
    title: str
    status: str
    source: str
    priority: int
    mode: str
    parent_task_id: str | None
    blocked_by: list[str]
    session_id: str | None
    question: str | None
    error: str | None
    created_by: str
    created_at: str
    updated_at: str
    approved_at: str | None
    started_at: str | None
    completed_at: str | None


class TaskDetail(TaskSummary, frozen=True, kw_only=True):
    description: str
    acceptance_criteria: list[str]
    assigned_agent_id: str | None
    trigger_id: str | None
    result: str | None


class TaskList(Struct, frozen=True, kw_only=True):
    tasks: list[TaskSummary]
    total: int
    limit: int
    offset: int
    page: int
    per_page: int
    total_pages: int


class DispatchedTask(Struct, frozen=True, kw_only=True):
    """A task as one who only waits for its outcome sees it."""

    id: str
    agent_name: str
    task: str
    session_id: str | None
    state: Literal["pending", "running", "completed", "failed", "timeout"]
    result: str | None
    error: str | None
    created_at: str
    updated_at: str
