"""How many statements begin at once: until their first rows, and no longer than a moment.

A statement reads its files when it begins. The engine's threads that read each keep what their last hundred
allocations held (its allocator collects no sooner), and there are as many threads as have ever read at once: ten
statements at a time over one file of 20 MB keep 2 GiB between them, two keep 0.9 GiB (docs/decisions/0010).
"""

import asyncio
import os
from types import TracebackType

from weir.lake_runtime.confine import resident_bytes

PATIENCE_SECONDS = 0.25
# Where memory runs short, waiting costs less than the process.
PRESSED_SECONDS = 2.0


class Start:
    """One statement's beginning; over with its first rows, when it fails, or when patience ends."""

    def __init__(self, places: asyncio.Semaphore, *, ample_bytes: int) -> None:
        """`ample_bytes`: what the process may have in memory before it is short of it."""
        self._places = places
        self._ample_bytes = ample_bytes
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> "Start":
        await self._places.acquire()
        is_pressed = resident_bytes(os.getpid()) > self._ample_bytes
        seconds = PRESSED_SECONDS if is_pressed else PATIENCE_SECONDS
        self._timer = asyncio.get_running_loop().call_later(seconds, self.end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._places.release()
