"""What the operator sees: progress lines on standard output, one sentence on standard error when it fails."""

import contextlib
import sys
import time
from typing import TextIO


class Console:
    """Line by line and flushed, so that it reads the same in a terminal, a pipe and a log file."""

    def __init__(self, out: TextIO | None = None, errors: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._errors = errors or sys.stderr

    def say(self, line: str) -> None:
        _write(self._out, line)

    def progress(self, name: str, state: str, since: float) -> None:
        """`since` is a reading of `time.monotonic()`."""
        self.say(f"  {name:<14} {state:<8} {time.monotonic() - since:.1f} s")

    def fail(self, sentence: str) -> None:
        _write(self._errors, f"weir: {sentence}")


def _write(stream: TextIO, line: str) -> None:
    # A reader that went away (`weir up | head`) is no reason to stop the platform.
    with contextlib.suppress(BrokenPipeError):
        stream.write(line + "\n")
        stream.flush()
