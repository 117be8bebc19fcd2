"""How much of an answer that is handed on is read before its reader has taken what came first.

Much makes one large answer fast, and is held in memory for each reader who stalls. So the first few answers read ahead
much, and all that come while those are open read little.
"""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp

FEW = 2
LITTLE_BYTES = 16 * 1024
# What the system keeps for a socket of which little is read ahead: no single read brings more.
SOCKET_BYTES = 16 * 1024


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


async def pieces_of(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """An answer's body as it comes. Where little is read ahead, nothing more comes while a piece is handed on."""
    # One without a body has no buffer, and of one that has come whole nothing more comes.
    if response.content.is_eof() or response.content.get_read_buffer_limits()[0] > LITTLE_BYTES:
        async for piece in response.content.iter_any():
            yield piece
        return
    async for piece in response.content.iter_any():
        # None when this is the last one: the connection is another's then.
        transport = response.connection and response.connection.transport
        if transport is None:
            yield piece
            continue
        transport.pause_reading()
        yield piece
        transport.resume_reading()


def small_socket(address: tuple[Any, ...]) -> socket.socket:
    """For an aiohttp connector: a socket that never holds much."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
    return made
