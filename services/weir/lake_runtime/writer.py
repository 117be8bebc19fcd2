"""An answer's bytes on their way out: what is small leaves as one message, the rest slice by slice."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from weir.lake_runtime.results import Encoder

Send = Callable[[dict[str, Any]], Awaitable[None]]

# Below this the whole answer is one message with its length; faults until then are proper statuses.
_FLUSH_BYTES = 256 * 1024
# What takes a while to encode.
_LONG_BYTES = 16 * 1024


class AnswerWriter:
    """Sends an answer in pieces; holds the first ones back so that an early fault is still a status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._pieces: list[bytes] = []
        self._pending = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self.is_started = False
        self.size = 0
        self.cache_status = ""
        """What `Results-Cache-Status` says; nothing where the cache does not come into it."""

    def begin(self, encoder: Encoder) -> None:
        self._say(encoder.content_type)
        self._keep(encoder.head())

    async def write(self, piece: bytes) -> None:
        self._keep(piece)
        if self._pending >= _FLUSH_BYTES:
            await self._flush(more=True)
        if len(piece) >= _LONG_BYTES:
            # Neither encoding nor sending need ever wait: let the loop serve the others between slices.
            await asyncio.sleep(0)

    def whole(self) -> bytes | None:
        """What has been written so far, if none of it has left yet."""
        return None if self.is_started else b"".join(self._pieces)

    async def finish(self, tail: bytes) -> None:
        self._keep(tail)
        await self._flush(more=False)

    async def send_whole(self, content_type: str, rows: bytes, tail: bytes) -> None:
        """An answer that is known already."""
        self._say(content_type)
        self._keep(rows)
        await self.finish(tail)

    def _say(self, content_type: str) -> None:
        self._headers.append((b"content-type", content_type.encode()))
        if self.cache_status:
            self._headers.append((b"results-cache-status", self.cache_status.encode()))

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._pending += len(piece)
        self.size += len(piece)

    async def _flush(self, *, more: bool) -> None:
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._pending = 0
        if not self.is_started:
            self.is_started = True
            if not more:
                self._headers.append((b"content-length", str(len(body)).encode()))
            await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
