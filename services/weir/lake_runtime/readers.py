"""Who is reading: what an older statement may still read is let go when the last such statement has ended."""

import itertools
from collections.abc import Callable, Generator
from contextlib import contextmanager


class Readers:
    """The statements under way. For the event loop's thread only."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._active: set[int] = set()
        self._waiting: list[tuple[set[int], Callable[[], None]]] = []

    @contextmanager
    def reading(self) -> Generator[None]:
        number = next(self._numbers)
        self._active.add(number)
        try:
            yield
        finally:
            self._active.discard(number)
            for left, _ in self._waiting:
                left.discard(number)
            done = [act for left, act in self._waiting if not left]
            self._waiting = [(left, act) for left, act in self._waiting if left]
            for act in done:
                act()

    def after_these(self, act: Callable[[], None]) -> None:
        """Once everyone who is reading now has ended; at once when nobody is."""
        if self._active:
            self._waiting.append((set(self._active), act))
        else:
            act()
