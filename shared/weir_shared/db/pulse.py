"""Whether a server still speaks: one that is silent is told apart from one whose statement is slow.

Behind a dead line nothing is answered, neither a statement nor its cancellation nor a rollback, and no time of a
statement tells which of the two it is. So when somebody has waited for a moment in which nothing at all was heard,
the server is asked on a line of its own. While it does not answer, those who wait are let go and nobody else begins.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

__all__ = ["Pulse", "Wait"]

PATIENCE_SECONDS = 0.5
PROBE_SECONDS = 1.5
TICK_SECONDS = 0.05
AGAIN_SECONDS = 0.5


class Wait:
    """Somebody who waits for the server; `give_up` ends that, and may be another at each step."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.give_up: Callable[[], object] = _nothing
        self.timer: asyncio.TimerHandle | None = None

    def end(self) -> None:
        """Nothing is waited for any more."""
        self.give_up = _nothing
        if self.timer is not None:
            self.timer.cancel()


class Pulse:
    """What is known of one server by this process."""

    def __init__(
        self, answers: Callable[[], Awaitable[bool]], returned: Callable[[], Awaitable[None]]
    ) -> None:
        """`answers` asks the server, however long that takes; `returned` is told when it speaks again."""
        self._answers = answers
        self._returned = returned
        self._now = asyncio.get_running_loop().time
        self._heard_at = self._now()
        self._waiting: set[Wait] = set()
        self._asking: asyncio.Task[None] | None = None
        self.is_silent = False

    def heard(self) -> None:
        """The server has answered something."""
        self._heard_at = self._now()

    @contextmanager
    def watched(self) -> Iterator[Wait]:
        """A wait that is given up when the server turns out to be silent."""
        wait = Wait(self._now())
        self._waiting.add(wait)
        self._look_after(PATIENCE_SECONDS, wait)
        try:
            yield wait
        finally:
            self._waiting.discard(wait)
            wait.end()

    def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    def _look_after(self, seconds: float, wait: Wait) -> None:
        wait.timer = asyncio.get_running_loop().call_later(seconds, self._look, wait)

    def _look(self, wait: Wait) -> None:
        quiet = self._now() - max(self._heard_at, wait.began)
        if self.is_silent:
            self._let_go(wait)
        elif quiet < PATIENCE_SECONDS:
            self._look_after(PATIENCE_SECONDS - quiet, wait)
        else:
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask())
            self._look_after(PATIENCE_SECONDS, wait)

    async def _ask(self) -> None:
        """Until the server answers."""
        try:
            while not await self._answers_in_time():
                self.is_silent = True
                # Who has just begun has the same patience first.
                for wait in [one for one in self._waiting if self._now() - one.began >= PATIENCE_SECONDS]:
                    self._let_go(wait)
                await asyncio.sleep(AGAIN_SECONDS)
            if self.is_silent:
                await self._returned()
            self.is_silent = False
            self.heard()
        finally:
            self._asking = None

    async def _answers_in_time(self) -> bool:
        """Time counts only while this process runs: one that is stopped or starved hears nothing, whoever speaks."""
        asked = asyncio.ensure_future(self._answers())
        try:
            for _ in range(round(PROBE_SECONDS / TICK_SECONDS)):
                await asyncio.wait([asked], timeout=TICK_SECONDS)
                if asked.done():
                    return asked.result()
            return False
        finally:
            asked.cancel()

    def _let_go(self, wait: Wait) -> None:
        self._waiting.discard(wait)
        wait.give_up()


def _nothing() -> None:
    """Nothing to give up yet."""
