"""Grandchildren whose parent died come to us, and we end them: nothing that a service started outlives the platform."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_REAP_SECONDS = 5.0


class Orphanage:
    """For a process of our own only: at the end it kills every child that was not there at the beginning."""

    def __init__(self) -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        # A shell that started jobs and then became us by exec has left us its children.
        self._strangers = frozenset(pid for pid, _ in _children())

    async def reap_for_ever(self, own: Callable[[], Collection[int]]) -> None:
        """Collects the dead among the adopted; `own` are waited for by whoever started them."""
        while True:
            await asyncio.sleep(_REAP_SECONDS)
            for pid, state in _children():
                if state == "Z" and pid not in own():
                    _collect(pid, os.WNOHANG)

    def close(self) -> None:
        """Kills what is left, and what that leaves in turn."""
        while left := [pid for pid, _ in _children() if pid not in self._strangers]:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                _collect(pid, 0)


def _children() -> Iterator[tuple[int, str]]:
    """Process number and state letter of each child of this process; nothing where there is no /proc."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The command's name stands in parentheses and may hold anything.
            state, parent = stat.read_text(errors="replace").rpartition(") ")[2].split()[:2]
            if int(parent) == os.getpid():
                yield int(stat.parent.name), state


def _collect(pid: int, options: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, options)
