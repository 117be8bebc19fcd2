"""The page that a runtime and its host share: the earliest deadline of its queries, and its signs of life."""

import mmap
import os
import struct
import time
from collections.abc import Generator
from contextlib import contextmanager

_SECONDS = struct.Struct("d")
# Not zero, which says that nothing runs; the clock counts from the start of the machine.
_LONG_PAST = 1e-9


class DeadlinePage:
    """Two float64 of CLOCK_MONOTONIC seconds in shared memory: the deadline, 0 when nothing runs, and the latest
    sign of life.

    Made before the runtime starts, so that the host reads what the runtime writes even when the runtime's
    event loop stands still.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        """`descriptor`: that of a page which somebody else has made, for a process that was not forked."""
        self.descriptor = os.memfd_create("deadline") if descriptor is None else descriptor
        os.ftruncate(self.descriptor, mmap.PAGESIZE)
        self._page = mmap.mmap(self.descriptor, mmap.PAGESIZE)
        self.beat()

    def write(self, deadline: float) -> None:
        _SECONDS.pack_into(self._page, 0, deadline)

    def read(self) -> float:
        return float(_SECONDS.unpack_from(self._page, 0)[0])

    def beat(self) -> None:
        """Gives a sign of life."""
        _SECONDS.pack_into(self._page, _SECONDS.size, time.monotonic())

    def silent_seconds(self, now: float) -> float:
        """From the latest sign of life to `now`, seconds of CLOCK_MONOTONIC."""
        return now - float(_SECONDS.unpack_from(self._page, _SECONDS.size)[0])

    def close(self) -> None:
        self._page.close()
        os.close(self.descriptor)


class Deadlines:
    """The deadlines of a runtime's running queries, kept on the page as their minimum."""

    def __init__(self, page: DeadlinePage) -> None:
        self._page = page
        self._running: dict[int, float] = {}
        self._count = 0
        self.condemned = False

    @property
    def active(self) -> int:
        return len(self._running)

    @contextmanager
    def hold(self, deadline: float) -> Generator[None]:
        """Keep one query's deadline on the page for as long as it runs."""
        self._count += 1
        key = self._count
        self._running[key] = deadline
        self._publish()
        try:
            yield
        finally:
            del self._running[key]
            self._publish()

    def condemn(self) -> None:
        """Leave a deadline that has long passed: the host ends this process at its next look."""
        self.condemned = True
        self._publish()

    def _publish(self) -> None:
        if self.condemned:
            self._page.write(_LONG_PAST)
        else:
            self._page.write(min(self._running.values(), default=0.0))
