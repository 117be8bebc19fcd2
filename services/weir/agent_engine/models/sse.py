"""Server-sent events out of a stream of bytes: many events a read, or an event over many reads."""

from collections.abc import Iterator

from weir.agent_engine.models.base import ModelGarbled

# A provider that sends an event longer than this is not one.
MAX_PENDING_BYTES = 8 * 1024 * 1024
# What is kept of an answer that is no stream of events, to tell what it is instead.
MAX_STRAY_BYTES = 4096


class EventReader:
    """Collects bytes and hands out the data of each whole event."""

    def __init__(self) -> None:
        self._pending = b""
        self.heard = False
        """Whether there was any event."""
        self.stray = b""
        """The beginning of what was sent instead of events."""

    def feed(self, content: bytes) -> Iterator[bytes]:
        """The data of every event that these bytes complete; comments and other fields are passed over.

        Raises ModelGarbled for an event without an end.
        """
        lines = (self._pending + content if self._pending else content).split(b"\n")
        self._pending = lines.pop()
        if len(self._pending) > MAX_PENDING_BYTES:
            raise ModelGarbled("The model sent an answer that has no end")
        # Providers of these protocols send one data line an event, so a line is an event.
        for line in lines:
            if line.startswith(b"data:"):
                self.heard = True
                yield line[5:].strip()
            elif not self.heard:
                self._stray(line)

    def rest(self) -> Iterator[bytes]:
        """The last event of a stream that ended without its line break."""
        pending, self._pending = self._pending, b""
        if pending.startswith(b"data:"):
            self.heard = True
            yield pending[5:].strip()
        elif not self.heard:
            self._stray(pending)

    def _stray(self, line: bytes) -> None:
        if len(self.stray) < MAX_STRAY_BYTES and not line.startswith((b":", b"event:", b"id:", b"retry:")):
            self.stray += line[:MAX_STRAY_BYTES]
