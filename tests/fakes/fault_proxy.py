"""A TCP proxy whose line can be made slow, silent or dead while it is used, and good again."""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

Line = Literal["good", "cut", "black_hole", "reset"]

CHUNK_BYTES = 65536
CONNECT_SECONDS = 5
# With this, a close throws away what is unsent and tells the peer by RST.
_ABRUPT = struct.pack("ii", 1, 0)


class FaultProxy:
    """Stands before one server.

    `cut`: open connections end and new ones are refused. `black_hole`: connections are taken and stay open, and
    nothing passes, not even their end. `reset`: open connections and each new one get RST.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._line: Line = "good"
        self._delay = 0.0
        self._is_good = asyncio.Event()
        self._is_good.set()
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.connections = 0
        """How many have been taken so far."""

    def in_url(self, url: str) -> str:
        """The URL of the server, by way of this proxy."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}").geturl()

    async def delay(self, seconds: float) -> None:
        """Each piece waits so long before it is handed on, in both directions."""
        self._delay = seconds

    async def set(self, line: Line) -> None:
        """`good` mends the line; connections that a black hole has kept go on where they were."""
        self._line = line
        if line == "good":
            self._is_good.set()
        else:
            self._is_good.clear()
        if line == "cut":
            await self._close_server()
        elif self._server is None:
            await self._listen()
        if line in ("cut", "reset"):
            self._break(abrupt=line == "reset")

    async def start(self) -> None:
        await self._listen()

    async def stop(self) -> None:
        await self._close_server()
        for task in list(self._carrying):
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._taken, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _break(self, *, abrupt: bool) -> None:
        for writer in list(self._open):
            _end(writer, abrupt=abrupt)

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        self._open.add(writer)
        self.connections += 1
        back: asyncio.StreamWriter | None = None
        try:
            if self._line in ("cut", "reset"):
                _end(writer, abrupt=self._line == "reset")
                return
            # In a black hole nobody is behind the line either.
            await self._is_good.wait()
            async with asyncio.timeout(CONNECT_SECONDS):
                there, back = await asyncio.open_connection(*self._target)
            self._open.add(back)
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        except (OSError, TimeoutError):
            # One of the two ends is gone: the other is told below.
            return
        finally:
            for one in (writer, back):
                if one is not None:
                    one.transport.abort()
                    self._open.discard(one)
            self._carrying.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self._delay:
                await asyncio.sleep(self._delay)
            await self._is_good.wait()
            writer.write(data)
            await writer.drain()
        await self._is_good.wait()
        with suppress(OSError):
            writer.write_eof()


def _end(writer: asyncio.StreamWriter, *, abrupt: bool) -> None:
    if writer.transport.is_closing():
        return
    if abrupt:
        held = writer.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABRUPT)
    writer.transport.abort()


@asynccontextmanager
async def fault_proxy(host: str, port: int) -> AsyncGenerator[FaultProxy, None]:
    proxy = FaultProxy(host, port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
