"""The clients of the rooms: bytes pass as they are, time-outs are the relay's own."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp

from weir_shared.auth.tickets import Audience
from weir_shared.web.read_ahead import LITTLE_BYTES, ReadAhead, small_socket

CONNECT_SECONDS = 5
KEEPALIVE_SECONDS = 30
READ_BUFFER_BYTES = 1024 * 1024


class RoomSessions:
    """Two clients: one reads much of an answer ahead, the other little."""

    def __init__(self, ample: aiohttp.ClientSession, sparing: aiohttp.ClientSession) -> None:
        self.ample = ample
        self._sparing = sparing
        self._ahead = ReadAhead()

    @contextmanager
    def for_answer(self, audience: Audience) -> Iterator[aiohttp.ClientSession]:
        """The client for one answer; only the lake's are large."""
        if audience != "context-lake":
            yield self._sparing
            return
        with self._ahead.begin() as is_ample:
            yield self.ample if is_ample else self._sparing


@asynccontextmanager
async def open_room_sessions() -> AsyncGenerator[RoomSessions, None]:
    async with (
        _session(READ_BUFFER_BYTES) as ample,
        _session(LITTLE_BYTES, socket_factory=small_socket) as sparing,
    ):
        yield RoomSessions(ample, sparing)


def _session(read_ahead: int, **sockets: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS, **sockets),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        auto_decompress=False,
        read_bufsize=read_ahead,
        skip_auto_headers={"User-Agent", "Content-Type", "Accept", "Accept-Encoding"},
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )
