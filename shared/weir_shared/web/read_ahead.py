"""How much of an answer that is handed on is read before its reader has taken what came first.

Much makes one large answer fast, and is held in memory for each reader who stalls. So the first few answers read ahead
much, and all that come while those are open read little.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FEW = 2
LITTLE_BYTES = 16 * 1024
# What the system keeps for a socket of which little is read ahead: no single read brings more.
SOCKET_BYTES = 64 * 1024


class ReadAhead:
    """The answers that this process hands on now."""

    def __init__(self) -> None:
        self._ample = 0

    @contextmanager
    def begin(self) -> Iterator[bool]:
        """Whether this answer is among the few, for as long as it lasts."""
        is_ample = self._ample < FEW
        self._ample += is_ample
        try:
            yield is_ample
        finally:
            self._ample -= is_ample


def small_socket(address: tuple[Any, ...]) -> socket.socket:
    """For an aiohttp connector: a socket that never holds much."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
    return made
