"""A wire to Postgres that can be cut between any two of its messages."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Wire:
    """Hands bytes on in both directions. Armed with n, it hands on n more writes of its clients, and then cuts:
    before the next one, or at once, so that the last one is done and its answer is never heard."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        self._host, self._port = parts.hostname, parts.port
        self._left: int | None = None
        self._at_once = False
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.cuts = 0
        self.lingering = 0.0
        """Seconds until a client hears that the server has closed."""

    def arm(self, writes: int, *, at_once: bool) -> None:
        self._left, self._at_once = writes, at_once

    def disarm(self) -> bool:
        """Whether it was still armed: nothing has been cut."""
        was_armed, self._left = self._left is not None, None
        return was_armed

    def cut(self) -> None:
        """The clients' ends at once; the server reads what was handed on, and then the end."""
        self.cuts += 1
        for writer in self._open:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._open.add(writer)
        server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
        directions = [
            asyncio.create_task(self._to_server(reader, server_writer)),
            asyncio.create_task(self._to_client(server_reader, writer)),
        ]
        try:
            # Each closes what it writes to when it ends, and with that the other one ends.
            await asyncio.wait(directions)
        finally:
            for direction in directions:
                direction.cancel()
            self._open.discard(writer)
            self._serving.discard(task)

    async def close(self) -> None:
        for writer in self._open:
            writer.transport.abort()
        if self._serving:
            await asyncio.wait(self._serving, timeout=5)

    async def _to_server(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                if self._left == 0:
                    self._left = None
                    self.cut()
                    return
                if self._left is not None:
                    self._left -= 1
                writer.write(chunk)
                await writer.drain()
                if self._left == 0 and self._at_once:
                    self._left = None
                    self.cut()
                    return
        except OSError:
            return  # one of the ends is gone, and the other hears of it
        finally:
            writer.close()

    async def _to_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
            await asyncio.sleep(self.lingering)
        except OSError:
            return  # the client has been cut off
        finally:
            writer.close()


@asynccontextmanager
async def wire_to(dsn: str) -> AsyncGenerator[tuple[Wire, str], None]:
    """The wire, and the address of the database at its other end."""
    wire = Wire(dsn)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    parts = urlsplit(dsn)
    yield wire, parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()
    server.close()
    await wire.close()
