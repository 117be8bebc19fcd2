"""A circuit breaker: who fails again and again is left alone for a while, then tried once."""

import time
from collections import deque
from collections.abc import Callable
from typing import Literal

FAILURES = 3
WITHIN_SECONDS = 60.0
OPEN_SECONDS = 120.0


class Breaker:
    """Closed while all is well; open after too many failures; half open while one probe is under way."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: deque[float] = deque(maxlen=FAILURES)
        self._opened: float | None = None
        self._probed: float | None = None

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        if self._opened is None:
            return "closed"
        return "half_open" if self._clock() - self._opened >= OPEN_SECONDS else "open"

    @property
    def failure_count(self) -> int:
        return len(self._recent())

    def admits(self) -> bool:
        """Whether a try may be made; of a half-open breaker one at a time."""
        state = self.state
        if state == "half_open":
            # A probe whose end nobody told does not bar the way for ever.
            if self._probed is not None and self._clock() - self._probed < WITHIN_SECONDS:
                return False
            self._probed = self._clock()
            return True
        return state == "closed"

    def succeeded(self) -> None:
        self._failures.clear()
        self._opened = self._probed = None

    def failed(self) -> None:
        self._failures.append(self._clock())
        if self._opened is not None or len(self._recent()) >= FAILURES:
            self._opened = self._clock()
        self._probed = None

    def _recent(self) -> list[float]:
        return [at for at in self._failures if self._clock() - at <= WITHIN_SECONDS]
