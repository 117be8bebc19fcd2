"""Small answers, kept for a second: dashboards and agents ask the same thing several times at once.

A cache belongs to one `Lake`, so a new configuration starts with an empty one; what is opened again empties it.
Only whole answers of statements that say the same each time are kept.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec
from msgspec import Struct

from weir.lake_runtime.results import Summary
from weir.lake_runtime.wire import SqlRequest

TTL_SECONDS = 1.0
MAX_BYTES = 64 * 1024 * 1024
MAX_ENTRY_BYTES = 256 * 1024
_OVERHEAD_BYTES = 1024
# Inside these, white space may be part of a value.
_QUOTES = ("'", '"', "`", "$$", "--", "/*")


class KeptAnswer(Struct, frozen=True, kw_only=True):
    """An answer's bytes; its end is written anew, for it tells how long *this* answer took."""

    content_type: str
    rows: bytes
    summary: Summary
    write_tail: Callable[[Summary], bytes]
    kept_at: float = 0.0


class ResultsCache:
    """The newest answers by what was asked, dropped by age, by room, and all at once by `clear`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[bytes, KeptAnswer] = OrderedDict()
        self._size = 0
        self.generation = 0
        """Grows whenever a table may have changed: an answer begun before that is not kept after it."""

    def find(self, key: bytes) -> KeptAnswer | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if self._clock() - kept.kept_at > TTL_SECONDS:
            self._drop(key)
            return None
        return kept

    def keep(self, key: bytes, answer: KeptAnswer, *, generation: int) -> None:
        if generation != self.generation or len(answer.rows) > MAX_ENTRY_BYTES:
            return
        if key in self._kept:
            self._drop(key)
        self._kept[key] = msgspec.structs.replace(answer, kept_at=self._clock())
        self._size += _weight(key, answer)
        while self._kept and (self._size > MAX_BYTES or self._is_oldest_stale()):
            self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        self.generation += 1
        self._kept.clear()
        self._size = 0

    def _is_oldest_stale(self) -> bool:
        return self._clock() - next(iter(self._kept.values())).kept_at > TTL_SECONDS

    def _drop(self, key: bytes) -> None:
        self._size -= _weight(key, self._kept.pop(key))


def key_of(request: SqlRequest) -> bytes:
    """Everything that an answer depends on but the tables themselves; the tenant is the process."""
    return msgspec.msgpack.encode((
        _normalised(request.query),
        # As text: a number may be larger than the wire of any format holds.
        repr(request.parameters),
        request.format,
        request.int64,
        request.maxRows,
        request.maxBytes,
        None if request.tables is None else sorted(request.tables),
    ))  # fmt: skip


def _normalised(query: str) -> str:
    text = query.strip().removesuffix(";")
    return text if any(quote in text for quote in _QUOTES) else " ".join(text.split())


def _weight(key: bytes, answer: KeptAnswer) -> int:
    return len(key) + len(answer.rows) + _OVERHEAD_BYTES
