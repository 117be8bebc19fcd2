"""A load driver that costs little itself: HTTP/1.1 on bare connections, one a client."""

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

LIMIT = 1 << 20
# More than any mark that is looked for.
TAIL = 64


@dataclass
class Reply:
    """Status, whole body, seconds to the first byte of the body and to its end, and the head as it came."""

    status: int
    body: bytes
    first: float
    total: float
    head: bytes = b""


@dataclass
class Connection:
    """One keep-alive connection to an address: `http://host:port` or `unix:/path`."""

    address: str
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = field(default=None)

    async def ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes = b"", *, keep: bool = True
    ) -> Reply:
        """`keep` False drops the body as it comes (its size is kept in `body` as a number's digits)."""
        reader, writer = await self._open()
        lines = [f"{method} {path} HTTP/1.1", "Host: bench", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        started = time.perf_counter()
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        lowered = head.lower()
        parts: list[bytes] = []
        size, first = 0, 0.0
        async for chunk in _body(reader, lowered):
            first = first or time.perf_counter() - started
            size += len(chunk)
            if keep:
                parts.append(chunk)
        total = time.perf_counter() - started
        return Reply(status, b"".join(parts) if keep else str(size).encode(), first or total, total, head)

    async def close(self) -> None:
        if self._streams:
            self._streams[1].close()
            self._streams = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            if self.address.startswith("unix:"):
                self._streams = await asyncio.open_unix_connection(
                    self.address.removeprefix("unix:"), limit=LIMIT
                )
            else:
                parts = urlsplit(self.address)
                self._streams = await asyncio.open_connection(parts.hostname, parts.port, limit=LIMIT)
        return self._streams


async def _body(reader: asyncio.StreamReader, head: bytes):
    if b"transfer-encoding: chunked" in head:
        while True:
            size = int(await reader.readline(), 16)
            left = size
            while left:
                piece = await reader.read(min(left, LIMIT))
                left -= len(piece)
                yield piece
            await reader.readexactly(2)
            if not size:
                return
    at = head.find(b"content-length:")
    left = int(head[at + 15 : head.find(b"\r\n", at)]) if at >= 0 else 0
    while left:
        piece = await reader.read(min(left, LIMIT))
        left -= len(piece)
        yield piece


@dataclass
class Listener:
    """One keep-alive connection that hears streams: no task is woken between a stream's beginning and its end.

    Reading a stream of a token each 20 ms must cost less than serving it, or the driver is what is measured.
    """

    address: str
    _ears: "_Ears | None" = None

    async def until(
        self, path: str, headers: dict[str, str], body: bytes, wanted: bytes, *, end: bytes = b""
    ) -> float:
        """Seconds until the answer's body holds the wanted bytes; the rest is read and dropped.

        Raises RuntimeError when they, or those of the end, never come.
        """
        ears = await self._open()
        lines = [f"POST {path} HTTP/1.1", "Host: bench", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        started = time.perf_counter()
        found = await ears.hear("\r\n".join(lines).encode() + b"\r\n\r\n" + body, wanted, end)
        if not found:
            await self.close()
            raise RuntimeError(f"{path}: the answer never held {wanted!r}")
        return found - started

    async def close(self) -> None:
        if self._ears is not None:
            self._ears.transport.close()
            self._ears = None

    async def _open(self) -> "_Ears":
        if self._ears is None or self._ears.transport.is_closing():
            parts = urlsplit(self.address)
            loop = asyncio.get_running_loop()
            _, self._ears = await loop.create_connection(_Ears, parts.hostname or "", parts.port or 80)
        return self._ears


class _Ears(asyncio.Protocol):
    """Looks for two marks and for the end of a chunked answer in what comes, wherever it is cut."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._heard: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._is_right: bool | None = None
        self._ended = False
        self._found = 0.0

    def hear(self, request: bytes, wanted: bytes, end: bytes) -> asyncio.Future[float]:
        """When the wanted bytes came; 0 when they, or those of the end, did not, or the status is not 200."""
        self._heard = asyncio.get_running_loop().create_future()
        self._wanted, self._end = wanted, end
        self._found, self._ended, self._tail = 0.0, not end, b""
        self._is_right = None
        self.transport.write(request)
        return self._heard

    def data_received(self, data: bytes) -> None:
        held = self._tail + data
        if self._is_right is None:
            if len(held) < len(b"HTTP/1.1 200"):
                self._tail = held
                return
            self._is_right = held.startswith(b"HTTP/1.1 200")
        if not self._found and self._wanted in held:
            self._found = time.perf_counter()
        if not self._ended and self._end in held:
            self._ended = True
        if held.endswith(b"\r\n0\r\n\r\n") or not self._is_right:
            self._tell()
            return
        self._tail = held[-TAIL:]

    def connection_lost(self, exc: Exception | None) -> None:
        self._tell()

    def _tell(self) -> None:
        if not self._heard.done():
            self._heard.set_result(self._found if self._is_right and self._ended else 0.0)


@dataclass
class Run:
    """What a load of many requests was like; times in seconds."""

    seconds: float
    totals: list[float]
    firsts: list[float]
    failures: int

    @property
    def rate(self) -> float:
        return len(self.totals) / self.seconds

    @property
    def p50(self) -> float:
        return statistics.median(self.totals)

    @property
    def first_p50(self) -> float:
        return statistics.median(self.firsts)


async def drive(
    address: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    *,
    clients: int,
    requests: int,
    expect: bytes,
) -> Run:
    """So many clients at once, each asking again when it has its answer, until so many requests are done.

    An answer counts when its status is 200 and its body holds `expect`.
    """
    left = requests
    totals: list[float] = []
    firsts: list[float] = []
    failures = 0

    async def one_client() -> None:
        nonlocal left, failures
        connection = Connection(address)
        while left > 0:
            left -= 1
            reply = await connection.ask("POST", path, headers, body)
            if reply.status != 200 or expect not in reply.body:
                failures += 1
                continue
            totals.append(reply.total)
            firsts.append(reply.first)
        await connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(one_client() for _ in range(clients)))
    return Run(time.perf_counter() - started, totals, firsts, failures)
