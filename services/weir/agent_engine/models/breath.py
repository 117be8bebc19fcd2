"""How often a stream is looked at when the process is busy: tokens that come meanwhile are handled together."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

LOOK_SECONDS = 0.025
# A look comes half a round of the event loop late on average, so a stream rests for eight rounds after a read: at
# rounds of 0.5 ms it does not rest, at 5 ms a token each 20 ms comes with the one after it.
ROUNDS = 16
# Shorter rests than this gather nothing; longer ones would be seen by a person who reads.
LEAST_SECONDS, MOST_SECONDS = 0.01, 0.1
# How much of what is known of a round comes from the last look.
WEIGHT = 0.25


class Breath:
    """Measures how long a round of the event loop takes, while there are streams."""

    def __init__(self) -> None:
        self._streams = 0
        self._round = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def stream(self) -> Generator[None]:
        """Held while a stream is read."""
        self._streams += 1
        if self._timer is None:
            self._round = 0.0
            self._wait()
        try:
            yield
        finally:
            self._streams -= 1
            if not self._streams and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    @property
    def seconds(self) -> float:
        """How long to leave a stream alone after a read; 0 unless the process is busy."""
        rest = ROUNDS * self._round
        return 0.0 if rest < LEAST_SECONDS else min(rest, MOST_SECONDS)

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + LOOK_SECONDS
        self._timer = loop.call_at(self._due, self._look)

    def _look(self) -> None:
        late = max(0.0, asyncio.get_running_loop().time() - self._due)
        self._round += WEIGHT * (late - self._round)
        self._wait()
