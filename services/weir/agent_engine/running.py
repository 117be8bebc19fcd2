"""The turns that run in this process, each a task of its own, and the events of those that ended lately."""

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any

from weir.agent_engine.events import EventLog
from weir.agent_engine.metrics import ACTIVE_SESSIONS

# What is kept for readers who come back; older turns are read from the ledger.
KEPT_LOGS = 1024
KEPT_BYTES = 64 * 1024 * 1024

Key = tuple[str, str]
"""Tenant and session."""


class RunningTurns:
    """Starts turns, finds their events, and ends them with the process."""

    def __init__(self) -> None:
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._ended: OrderedDict[Key, EventLog] = OrderedDict()
        self._ended_bytes = 0
        self._logs: dict[Key, EventLog] = {}

    def start(self, key: Key, log: EventLog, turn: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """The turn as a task that nobody's connection can end."""
        self._forget(key)
        task = asyncio.create_task(turn)
        self._tasks[key], self._logs[key] = task, log
        task.add_done_callback(lambda ended: self._end(key, ended))
        ACTIVE_SESSIONS.inc()
        return task

    def log_of(self, key: Key) -> EventLog | None:
        """The events of the session's turn, running or lately ended."""
        # By presence: the log of a turn that has told nothing yet is empty.
        return self._logs[key] if key in self._logs else self._ended.get(key)

    async def stop(self, key: Key) -> None:
        """Ends the session's turn, if it runs here, and forgets its events."""
        task = self._tasks.get(key)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._forget(key)

    async def close(self, seconds: float) -> None:
        """Lets turns end by themselves for a while, then stops them."""
        tasks = list(self._tasks.values())
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    def _end(self, key: Key, ended: asyncio.Task[None]) -> None:
        ACTIVE_SESSIONS.dec()
        # The next turn of the session may have begun before this was called.
        if self._tasks.get(key) is not ended:
            return
        del self._tasks[key]
        log = self._ended[key] = self._logs.pop(key)
        self._ended_bytes += log.size
        while len(self._ended) > KEPT_LOGS or self._ended_bytes > KEPT_BYTES:
            _, oldest = self._ended.popitem(last=False)
            self._ended_bytes -= oldest.size

    def _forget(self, key: Key) -> None:
        log = self._ended.pop(key, None)
        if log is not None:
            self._ended_bytes -= log.size
