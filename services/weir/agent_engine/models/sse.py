"""Server-sent events out of a stream of bytes: many events a read, or an event over many reads."""

from collections.abc import Iterator

# A provider that sends an event longer than this is not one.
MAX_PENDING_BYTES = 8 * 1024 * 1024


class EventTooLong(Exception):
    """An event without an end."""


class EventReader:
    """Collects bytes and hands out the data of each whole event."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, content: bytes) -> Iterator[bytes]:
        """The data of every event that these bytes complete; comments and other fields are passed over."""
        lines = (self._pending + content if self._pending else content).split(b"\n")
        self._pending = lines.pop()
        if len(self._pending) > MAX_PENDING_BYTES:
            raise EventTooLong
        # Providers of this protocol send one data line an event, so a line is an event.
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()

    def rest(self) -> Iterator[bytes]:
        """The last event of a stream that ended without its line break."""
        pending, self._pending = self._pending, b""
        if pending.startswith(b"data:"):
            yield pending[5:].strip()
