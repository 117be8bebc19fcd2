"""The time that a turn may take; it stands still while the turn waits for a person."""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager


class TurnClock:
    """Counts down from `seconds` while it runs. A sub-agent's clock never has more than the one above it."""

    def __init__(self, seconds: float, above: "TurnClock | None" = None) -> None:
        self._seconds = seconds
        self._above = above
        self._pauses = 0
        # While it runs: when the time is up. While it stands: nothing.
        self._ends = time.monotonic() + seconds
        self._timeout: asyncio.Timeout | None = None

    @property
    def left(self) -> float:
        """Seconds that are left, of this clock and of those above."""
        own = self._seconds if self._pauses else self._ends - time.monotonic()
        return own if self._above is None else min(own, self._above.left)

    @property
    def is_paused(self) -> bool:
        return self._pauses > 0

    @property
    def deadline(self) -> float:
        """When the time is up, by the monotonic clock, if nothing pauses from now on."""
        return time.monotonic() + self.left

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Starts the clock. Raises TimeoutError once its own time is up; each clock above raises for itself."""
        self._ends = time.monotonic() + self._seconds
        async with asyncio.timeout(self._seconds) as self._timeout:
            yield

    @contextmanager
    def paused(self) -> Generator[None]:
        """Stops this clock and those above; of several pauses at a time, the last that ends lets it go on."""
        clocks = list(self._with_those_above())
        for clock in clocks:
            clock._stop()
        try:
            yield
        finally:
            for clock in clocks:
                clock._go_on()

    def _with_those_above(self) -> Generator["TurnClock"]:
        clock: TurnClock | None = self
        while clock is not None:
            yield clock
            clock = clock._above

    def _stop(self) -> None:
        self._pauses += 1
        if self._pauses == 1:
            self._seconds = max(0.0, self._ends - time.monotonic())
            self._reschedule(None)

    def _go_on(self) -> None:
        self._pauses -= 1
        if not self._pauses:
            self._ends = time.monotonic() + self._seconds
            self._reschedule(self._seconds)

    def _reschedule(self, seconds: float | None) -> None:
        # A time-out that has struck already cannot be taken back.
        if self._timeout is not None and not self._timeout.expired():
            now = asyncio.get_running_loop().time()
            self._timeout.reschedule(None if seconds is None else now + seconds)
