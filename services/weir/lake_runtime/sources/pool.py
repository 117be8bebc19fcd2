"""Connections to one source that are kept for the next statement."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from weir.lake_runtime.faults import SourceError

MAX_CONNECTIONS = 32


class Connections:
    """At most 32 at a time. Nobody waits for one: scans of one query wait for each other as it is."""

    def __init__(self, dataset: str, connect: Callable[[], Any], *, keep: int) -> None:
        self._dataset = dataset
        self._connect = connect
        self._keep = keep
        self._idle: list[Any] = []
        self._open = 0
        self._is_closed = False
        self._lock = threading.Lock()

    def take(self) -> tuple[Any, bool]:
        """A connection, and whether it is an old one, which may have died since."""
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
            if self._open >= MAX_CONNECTIONS:
                raise SourceError(self._dataset, f"more than {MAX_CONNECTIONS} reads at the same time")
            self._open += 1
        try:
            return self._connect(), False
        except BaseException:
            with self._lock:
                self._open -= 1
            raise

    def give_back(self, connection: Any, *, is_usable: bool) -> None:
        with self._lock:
            is_kept = is_usable and not self._is_closed and len(self._idle) < self._keep
            if is_kept:
                self._idle.append(connection)
            else:
                self._open -= 1
        if not is_kept:
            _close(connection)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            _close(connection)


def _close(connection: Any) -> None:
    with contextlib.suppress(Exception):
        connection.close()
