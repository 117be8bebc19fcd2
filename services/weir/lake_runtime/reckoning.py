"""After a statement was cancelled: does its work really stop, or must the host end this process?

A cancelled nested-loop join keeps its threads busy for ever, and planning cannot be cancelled at all.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from weir.lake_runtime.deadline import Deadlines
from weir.lake_runtime.query import Run

PATIENCE_SECONDS = 1.0
_CROWDED_SECONDS = 10.0
_LOOK_SECONDS = 0.1
_THREADS = Path("/proc/self/task")
# Below this share of one core over a look, and with no thread that wants a core, the process is idle. One that a busy
# machine keeps off its cores uses none either, but its threads are runnable.
_IDLE_SHARE = 0.1
_IDLE_LOOKS = 3
_STUBBORN = ("Cross Join", "Join:  Filter", "Join: Filter")


async def reckon(run: Run, deadlines: Deadlines, is_busy: Callable[[], bool] = lambda: False) -> None:
    """Condemn the process unless it comes to rest within `PATIENCE_SECONDS`.

    While other statements run or `is_busy` says that other work is done, the process is busy for good reason: then it is watched for longer, and
    condemned only for a plan that is known to ignore its cancellation.
    """
    started, idle_looks = time.monotonic(), 0
    while (waited := time.monotonic() - started) < _CROWDED_SECONDS:
        used = time.process_time()
        await asyncio.sleep(_LOOK_SECONDS)
        is_idle = time.process_time() - used < _IDLE_SHARE * _LOOK_SECONDS and not _wants_a_core()
        idle_looks = idle_looks + 1 if is_idle else 0
        if idle_looks == _IDLE_LOOKS and not _is_planning(run):
            return
        if waited >= PATIENCE_SECONDS and not deadlines.active and not is_busy():
            deadlines.condemn()
            return
    if _is_planning(run) or _is_stubborn(run):
        deadlines.condemn()


def _wants_a_core() -> bool:
    """Whether any thread but this one is runnable (proc(5): the state is the first field after the name)."""
    own = str(threading.get_native_id())
    for thread in _THREADS.iterdir():
        # A thread may end between its listing and the look at it.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if thread.name != own and (thread / "stat").read_text().rpartition(") ")[2].startswith("R"):
                return True
    return False


def _is_planning(run: Run) -> bool:
    return run.planning is not None and not run.planning.done()


def _is_stubborn(run: Run) -> bool:
    if run.frame is None:
        return False
    plan = run.frame.logical_plan().display_indent()
    return any(sign in plan for sign in _STUBBORN)
