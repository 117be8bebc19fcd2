"""Readers who do not read: one who takes hardly anything of what waits for him is cut off after a while."""

import socket
import struct
import sys
import time
from collections.abc import Iterable
from typing import Any

import structlog

from weir_shared.telemetry.metrics import counter

# Whoever takes at least so much within the time is slow, and not stalled.
LEAST_BYTES = 64 * 1024
# Where Linux keeps the bytes that the other end has acknowledged (`tcpi_bytes_acked` of `struct tcp_info`).
_ACKNOWLEDGED = slice(120, 128)
# With this, a close throws away what is unsent and tells the peer by RST.
_AT_ONCE = struct.pack("ii", 1, 0)

READERS_CUT = counter("http_readers_cut_total", "Connections cut because their reader had stalled")

log = structlog.get_logger(__name__)


class StalledReaders:
    """Looks through the connections of a server now and then; nothing is done for each piece that is sent."""

    def __init__(self, connections: Iterable[Any], seconds: float) -> None:
        """`connections` are uvicorn's protocols, as many as there are at each look."""
        self._connections = connections
        self._seconds = seconds
        self._marks: dict[Any, tuple[float, int]] = {}

    async def look(self) -> None:
        now, marks = time.monotonic(), self._marks
        self._marks = {}
        for connection in list(self._connections):
            transport = connection.transport
            if not transport.get_write_buffer_size():
                continue
            taken = _taken(transport)
            since, before = marks.get(connection, (now, taken))
            if taken - before >= LEAST_BYTES:
                since, before = now, taken
            if now - since < self._seconds:
                self._marks[connection] = since, before
                continue
            READERS_CUT.inc()
            log.warning("reader cut off", seconds=round(now - since), taken=taken - before)
            _cut(transport)


def _cut(transport: Any) -> None:
    """Closing would wait until everything has been taken; and what the system holds for the reader goes as well."""
    line = transport.get_extra_info("socket")
    if line is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    transport.abort()


def _taken(transport: Any) -> int:
    """Bytes that the other end has acknowledged so far; elsewhere than on Linux only whether it takes everything counts."""
    line = transport.get_extra_info("socket")
    if sys.platform != "linux" or line is None or line.family == socket.AF_UNIX:
        return 0
    return int.from_bytes(
        line.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)[_ACKNOWLEDGED], sys.byteorder
    )
