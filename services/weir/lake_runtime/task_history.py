"""What a tenant has asked of its runtime lately, as the rows of `runtime.task_history`.

A ring in memory: it outlives configurations, not the process.
"""

import random
import time
from collections import deque
from collections.abc import Iterator

import pyarrow as pa
from msgspec import Struct

MAX_TASKS = 2_000
MAX_AGE_SECONDS = 8 * 3600
MAX_INPUT = 4_096

COLUMNS = pa.schema([
    pa.field("trace_id", pa.string(), nullable=False),
    pa.field("span_id", pa.string(), nullable=False),
    pa.field("parent_span_id", pa.string()),
    pa.field("task", pa.string(), nullable=False),
    pa.field("input", pa.string(), nullable=False),
    pa.field("captured_output", pa.string()),
    pa.field("start_time", pa.timestamp("us", "UTC"), nullable=False),
    pa.field("end_time", pa.timestamp("us", "UTC"), nullable=False),
    pa.field("execution_duration_ms", pa.float64(), nullable=False),
    pa.field("error_message", pa.string()),
    pa.field("labels", pa.map_(pa.string(), pa.string()), nullable=False),
])  # fmt: skip


class Task(Struct, frozen=True, kw_only=True):
    """One piece of work that has ended, well or ill. Nothing in it may hold a secret."""

    trace_id: str
    span_id: str
    task: str
    input: str
    started: float
    """Unix seconds."""
    seconds: float
    error_message: str | None
    labels: dict[str, str]


class TaskHistory:
    """The newest tasks; written by the event loop, read by the threads that plan."""

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque(maxlen=MAX_TASKS)

    def note(
        self,
        task: str,
        text: str,
        *,
        started: float,
        trace_id: str = "",
        error_message: str | None = None,
        **labels: str,
    ) -> None:
        """Keep a task that ends now; `text` and `error_message` have been scrubbed."""
        cut = text if len(text) <= MAX_INPUT else text[:MAX_INPUT] + "…"
        self._tasks.append(
            Task(
                trace_id=trace_id or _identity(128),
                span_id=_identity(64),
                task=task,
                input=cut,
                started=started,
                seconds=time.time() - started,
                error_message=error_message,
                labels={name: value for name, value in labels.items() if value},
            )
        )

    def table(self, *, subject: str | None = None) -> pa.Table:
        """The tasks of the last eight hours, oldest first; with a subject only what that one asked."""
        rows = [_row(task) for task in self._recent() if subject in (None, task.labels.get("subject"))]
        return pa.Table.from_pylist(rows, schema=COLUMNS)

    def _recent(self) -> Iterator[Task]:
        oldest = time.time() - MAX_AGE_SECONDS
        # A copy at once: the loop may add to it meanwhile.
        return (task for task in tuple(self._tasks) if task.started >= oldest)


def _identity(bits: int) -> str:
    """Names a task and guards nothing: the system's own randomness would cost each answer two system calls."""
    return f"{random.getrandbits(bits):0{bits // 4}x}"


def _row(task: Task) -> dict[str, object]:
    began = round(task.started * 1_000_000)
    return {
        "trace_id": task.trace_id,
        "span_id": task.span_id,
        "parent_span_id": None,
        "task": task.task,
        "input": task.input,
        "captured_output": None,
        "start_time": began,
        "end_time": began + round(task.seconds * 1_000_000),
        "execution_duration_ms": round(task.seconds * 1000, 3),
        "error_message": task.error_message,
        "labels": list(task.labels.items()),
    }
