"""The operator's wish to stop, and to stop at once."""

import asyncio
import signal
import time

# A terminal and a wrapper around us may each pass on the same key press.
_SECOND_PRESS_SECONDS = 0.5


class StopRequests:
    """`requested` after SIGTERM, SIGINT or SIGHUP; `insisted` after a second Ctrl-C."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.insisted = asyncio.Event()
        self._first_interrupt: float | None = None
        loop = asyncio.get_running_loop()
        # `make` repeats a SIGTERM that its whole group has received: any number of them mean one.
        loop.add_signal_handler(signal.SIGTERM, self.requested.set)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(signal.SIGHUP, self.requested.set)

    def _interrupt(self) -> None:
        self.requested.set()
        now = time.monotonic()
        if self._first_interrupt is None:
            self._first_interrupt = now
        elif now - self._first_interrupt >= _SECOND_PRESS_SECONDS:
            self.insisted.set()
