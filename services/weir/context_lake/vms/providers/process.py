"""Runtimes as processes of this machine, forked by the lake host: the client of its control socket."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec
from msgspec import Struct

from weir_shared.settings import Settings

MEBIBYTE = 1024 * 1024
ANSWER_SECONDS = 10
LINE_BYTES = 4 * MEBIBYTE


class HostUnreachable(Exception):
    """The lake host does not answer."""


class HostRefused(Exception):
    """The lake host answered that it cannot; `code` is its own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Living(Struct, frozen=True, kw_only=True):
    """A runtime that the host has."""

    tenant: str
    epoch: int
    pid: int
    rssBytes: int = 0
    endedFor: str = ""
    """Why it is being ended; empty for one that serves."""


class Exit(Struct, frozen=True, kw_only=True):
    """The end of a runtime, as the host tells it."""

    tenant: str
    epoch: int
    reason: str


class _Reply(Struct, frozen=True, kw_only=True):
    ok: bool
    error: str = ""
    message: str = ""
    runtimes: Any = None


class ProcessHost:
    """Starts, ends and lists runtimes; one connection a request."""

    def __init__(self, settings: Settings) -> None:
        self._socket = settings.host_socket.absolute()
        self._caches = (settings.data_dir / "cache").absolute()
        self._import_root = settings.imports.absolute()
        # What a tenant uploads: his own directory is all that a sandbox shows of it.
        self._uploads = settings.uploads.absolute()
        self._memory_bytes = settings.vm_memory_mib * MEBIBYTE
        self._kept_bytes = settings.vm_kept_tables_mib * MEBIBYTE
        self._allow_private = settings.allow_private_addresses

    def endpoint_of(self, tenant_id: str, epoch: int) -> str:
        """Where the runtime of an epoch listens; short, because a socket's path has at most 107 bytes."""
        name = hashlib.sha256(tenant_id.encode()).hexdigest()[:16]
        return str(self._socket.with_name(f"{name}-{epoch}.sock"))

    async def spawn(self, tenant_id: str, epoch: int, secret: str) -> None:
        """Starts a runtime; it takes connections when this returns. Raises HostUnreachable, HostRefused."""
        await self._ask(
            op="spawn",
            tenant=tenant_id,
            epoch=epoch,
            socket=self.endpoint_of(tenant_id, epoch),
            memoryLimitBytes=self._memory_bytes,
            keptTablesBytes=self._kept_bytes,
            cacheDir=str(self._caches / tenant_id),
            importRoot=str(self._import_root),
            secret=secret,
            allowPrivate=self._allow_private,
            readable=[str(self._uploads / tenant_id)],
        )

    async def kill(self, tenant_id: str, epoch: int, signal: Literal["TERM", "KILL"] = "KILL") -> None:
        """Ends a runtime if it is this epoch; one that is gone or newer is left alone."""
        try:
            await self._ask(op="kill", tenant=tenant_id, epoch=epoch, signal=signal)
        except HostRefused as fault:
            if fault.code != "stale_epoch":
                raise

    async def let_go(self, tenant_id: str, epoch: int, *, seconds: float) -> None:
        """Lets a runtime that takes no more queries end its answers beside its successor, for so long at most."""
        await self._ask(op="letGo", tenant=tenant_id, epoch=epoch, seconds=seconds)

    async def list(self) -> list[Living]:
        return msgspec.convert((await self._ask(op="list")).runtimes, list[Living])

    async def watch(self) -> AsyncGenerator[Exit, None]:
        """Every end of a runtime from now on. Raises HostUnreachable when the host goes away."""
        async with self._connected() as (reader, writer):
            await _say(reader, writer, {"op": "watch"})
            while line := await reader.readline():
                yield msgspec.json.decode(line, type=Exit)
        raise HostUnreachable("the lake host has ended")

    async def _ask(self, **request: Any) -> _Reply:
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._connected() as (reader, writer):
                reply = await _say(reader, writer, request)
        except TimeoutError:
            raise HostUnreachable("the lake host does not answer") from None
        if not reply.ok:
            raise HostRefused(reply.error, reply.message)
        return reply

    @asynccontextmanager
    async def _connected(
        self,
    ) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter], None]:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._socket), limit=LINE_BYTES)
        except OSError:
            raise HostUnreachable("the lake host cannot be reached") from None
        try:
            yield reader, writer
        except OSError:
            raise HostUnreachable("the lake host has broken off") from None
        finally:
            writer.close()


async def _say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: dict[str, Any]) -> _Reply:
    writer.write(msgspec.json.encode(request) + b"\n")
    await writer.drain()
    line = await reader.readline()
    if not line:
        raise HostUnreachable("the lake host has broken off")
    return msgspec.json.decode(line, type=_Reply)
