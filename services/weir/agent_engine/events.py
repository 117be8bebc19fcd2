"""A turn as its readers see it: numbered events, kept in memory while the turn runs and a while after."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from weir.agent_engine.metrics import SSE_OPEN

OPENING = b": ok\n\n"
HEARTBEAT = b": heartbeat\n\n"
HEARTBEAT_SECONDS = 15.0
# A turn that says more than this has lost its way; what is kept in memory for its readers stays bounded.
MAX_BYTES = 8 * 1024 * 1024

_json = msgspec.json.Encoder()


class TooMuchSaid(Exception):
    """The turn's events fill their log."""


class EventLog:
    """The events of one turn, in order, for any number of readers.

    An event's id is `<turn number>-<sequence>`, so that a reader who comes back is not fed the events of
    another turn of the session.
    """

    def __init__(self, turn_number: int) -> None:
        self._prefix = f"id: {turn_number}-".encode()
        self._frames: list[bytes] = []
        self.size = 0
        self._readers: set[_Reader] = set()
        self.turn_number = turn_number
        self.ended = False

    def append(self, event: str, data: dict[str, Any]) -> None:
        """Adds an event; its readers wake up once the writer next awaits, and take all there is in one go.

        Raises TooMuchSaid.
        """
        frame = b"%b%d\nevent: %b\ndata: %b\n\n" % (
            self._prefix,
            len(self._frames) + 1,
            event.encode(),
            _json.encode(data),
        )
        self.size += len(frame)
        # The end of a turn is always told.
        if self.size > MAX_BYTES and event not in ("error", "done", "message"):
            raise TooMuchSaid
        self._frames.append(frame)
        self._wake()

    def end(self) -> None:
        self.ended = True
        self._wake()

    def since(self, position: int) -> list[bytes]:
        return self._frames[position:]

    def __len__(self) -> int:
        return len(self._frames)

    async def follow(self, after: int = 0) -> AsyncIterator[bytes]:
        """The stream of a reader: an opening comment, then every event after the sequence number given.

        Events that arrive together leave together; a comment breaks every silence of 15 s.
        """
        reader = _Reader()
        self._readers.add(reader)
        SSE_OPEN.inc()
        try:
            yield OPENING
            position = after
            while True:
                frames = self.since(position)
                if frames:
                    position += len(frames)
                    yield b"".join(frames)
                elif self.ended:
                    return
                elif not await reader.wait():
                    yield HEARTBEAT
        finally:
            SSE_OPEN.dec()
            reader.leave()
            self._readers.discard(reader)

    def position_after(self, event_id: str) -> int:
        """How many events a reader has seen whose last one was this; 0 for an id of another turn."""
        number, _, sequence = event_id.partition("-")
        known = number == str(self.turn_number) and sequence.isascii() and sequence.isdecimal()
        return min(int(sequence[:18]), len(self._frames)) if known else 0

    def _wake(self) -> None:
        for reader in self._readers:
            reader.wake()


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
