"""A turn as its readers see it: numbered events, kept in memory while the turn runs and a while after."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import msgspec

from weir.agent_engine.metrics import SSE_ABORTED, SSE_OPEN

OPENING = b": ok\n\n"
HEARTBEAT = b": heartbeat\n\n"
HEARTBEAT_SECONDS = 15.0
# A turn that says more than this has lost its way; what is kept in memory for its readers stays bounded.
MAX_BYTES = 8 * 1024 * 1024
PAGE = 16

_json = msgspec.json.Encoder()
_LINE_ENDS = (
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
    ("\u0085".encode(), b"\\u0085"),
)


class TooMuchSaid(Exception):
    """The turn's events fill their log."""


class EventLog:
    """The events of one turn, in order, for any number of readers.

    An event's id is `<turn number>-<sequence>`, so that a reader who comes back is not fed the events of
    another turn of the session.
    """

    def __init__(self, turn_number: int) -> None:
        # Pages of PAGE frames each, and those that fill no page yet: by themselves they would take twice the memory.
        self._pages: list[bytes] = []
        self._page: list[bytes] = []
        self.size = 0
        self._readers: set[_Reader] = set()
        self.turn_number = turn_number
        self.ended = False

    def append(self, event: str, data: dict[str, Any]) -> None:
        """Adds an event; its readers wake up once the writer next awaits, and take all there is in one go.

        Raises TooMuchSaid.
        """
        frame = frame_of(self.turn_number, len(self) + 1, event, data)
        # The end of a turn is always told.
        if self.size + len(frame) > MAX_BYTES and event not in ("error", "done", "message"):
            self.size += len(frame)
            raise TooMuchSaid
        self.add([frame])

    def add(self, frames: Sequence[bytes]) -> None:
        """Adds events as they were told elsewhere."""
        for frame in frames:
            self.size += len(frame)
            self._page.append(frame)
            if len(self._page) == PAGE:
                self._pages.append(b"".join(self._page))
                self._page.clear()
        self._wake()

    def end(self) -> None:
        self.ended = True
        self._wake()

    def since(self, position: int) -> bytes:
        """The events after so many, as they are sent."""
        page, seen = divmod(position, PAGE)
        if page >= len(self._pages):
            return b"".join(self._page[seen:])
        return b"".join((*_frames(self._pages[page])[seen:], *self._pages[page + 1 :], *self._page))

    def each_since(self, position: int) -> list[bytes]:
        """The events after so many, each by itself."""
        return _frames(self.since(position))

    def __len__(self) -> int:
        return PAGE * len(self._pages) + len(self._page)

    async def follow(self, after: int = 0) -> AsyncGenerator[bytes, None]:
        """The stream of a reader: an opening comment, then every event after the sequence number given.

        Events that arrive together leave together; a comment breaks every silence of 15 s.
        """
        reader = _Reader()
        self._readers.add(reader)
        SSE_OPEN.inc()
        position = after
        try:
            yield OPENING
            while True:
                if position < len(self):
                    told, position = self.since(position), len(self)
                    yield told
                elif self.ended:
                    return
                elif not await reader.wait():
                    yield HEARTBEAT
        finally:
            SSE_OPEN.dec()
            if position < len(self) or not self.ended:
                SSE_ABORTED.inc()
            reader.leave()
            self._readers.discard(reader)

    def position_after(self, event_id: str) -> int:
        """How many events a reader has seen whose last one was this; 0 for an id of another turn."""
        return min(seen_of(self.turn_number, event_id), len(self))

    def _wake(self) -> None:
        for reader in self._readers:
            reader.wake()


def _frames(told: bytes) -> list[bytes]:
    """One by one: an empty line ends each, and none has one within."""
    return [frame + b"\n\n" for frame in told.split(b"\n\n")[:-1]]


def frame_of(turn_number: int, number: int, event: str, data: dict[str, Any]) -> bytes:
    """One event as it is sent."""
    return b"id: %d-%d\nevent: %b\ndata: %b\n\n" % (
        turn_number,
        number,
        event.encode(),
        one_line(_json.encode(data)),
    )


def seen_of(turn_number: int, event_id: str) -> int:
    """The number of an event of this turn from its id; 0 for an id of another turn, and for nonsense."""
    number, _, sequence = event_id.partition("-")
    known = number == str(turn_number) and sequence.isascii() and sequence.isdecimal()
    return int(sequence[:9]) if known else 0


def told_in(part: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events in a piece of a stream, each with its data; comments are passed over."""
    for frame in part.split(b"\n\n"):
        head, _, data = frame.partition(b"\ndata: ")
        if data:
            yield head.rpartition(b"event: ")[2].decode(), msgspec.json.decode(data)


def last_number(part: bytes) -> int:
    """The number of the last event in a piece of a stream; 0 when it holds none."""
    at = part.rfind(b"id: ")
    while at > 0 and part[at - 2 : at] != b"\n\n":
        at = part.rfind(b"id: ", 0, at)
    if at < 0 or (at == 0 and not part.startswith(b"id: ")):
        return 0
    return int(part[at : part.index(b"\n", at)].rpartition(b"-")[2])


def is_end(part: bytes) -> bool:
    """Whether a piece of a stream holds the end of its turn."""
    return b"\nevent: done\ndata: " in part


def one_line(data: bytes) -> bytes:
    """JSON on one line for every reader: some libraries end a line at these signs too."""
    for sign, escape in _LINE_ENDS:
        if sign in data:
            data = data.replace(sign, escape)
    return data


class _Reader:
    """One connection that waits; it has one timer, which looks whether the silence has lasted."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[bool] | None = None
        self._since = self._loop.time()
        self._timer = self._loop.call_later(HEARTBEAT_SECONDS, self._look)

    async def wait(self) -> bool:
        """True when there is something to read, False when it is time for a heartbeat."""
        self._since = self._loop.time()
        self._waiting = self._loop.create_future()
        return await self._waiting

    def wake(self, news: bool = True) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(news)

    def leave(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        silence = self._loop.time() - self._since
        if silence >= HEARTBEAT_SECONDS:
            self.wake(news=False)
            silence = 0.0
        self._timer = self._loop.call_later(HEARTBEAT_SECONDS - silence, self._look)
