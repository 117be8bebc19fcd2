"""What a started process becomes: one tenant's runtime on an inherited socket, until it is told to end."""

import asyncio
import contextlib
import logging
import math
import shutil
import signal
import socket
from typing import Any

import uvicorn

# uvicorn loads these by name when it starts: loaded here, they are in the host before it forks.
import uvicorn.lifespan.off  # pyright: ignore[reportUnusedImport]
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from weir.lake_runtime.app import RuntimeApp
from weir.lake_runtime.confine import STOPPING
from weir.lake_runtime.deadline import DeadlinePage, Deadlines
from weir.lake_runtime.settings import RuntimeSettings

_DRAIN_SECONDS = 4
_BEAT_SECONDS = 1.0
# Room for a few encoded slices: the next one is encoded while the reader takes these.
_SEND_BUFFER_BYTES = 2 * 1024 * 1024
# Of the connections after the first few: what the system holds of an answer, its reader gets at once and has to keep.
_FEW = 2
_SMALL_BUFFER_BYTES = 16 * 1024


class _Connection(HttpToolsProtocol):
    def connection_made(self, transport: Any) -> None:
        # An accepted unix socket does not inherit its listener's; the system may grant less.
        held = _SEND_BUFFER_BYTES if len(self.connections) < _FEW else _SMALL_BUFFER_BYTES
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, held)
        transport.set_write_buffer_limits(high=_SEND_BUFFER_BYTES)
        super().connection_made(transport)
        self.transport = _WithHead(transport)  # type: ignore[assignment]


class _WithHead:
    """A transport that sends the head of an answer together with what follows it: one system call for a small one.

    The application writes both in the same breath.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100"):
            # Later pieces begin with their size, so only a head looks like one.
            self._head = data
        else:
            self._transport.write(data)

    def close(self) -> None:
        if self._head:
            self._transport.write(self._head)
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def serve(settings: RuntimeSettings, listener: socket.socket, page: DeadlinePage) -> None:
    """Serve until SIGTERM or `POST /stop`; returns when the last answer has been drained."""
    logging.basicConfig(
        level=logging.WARNING, format=f"%(levelname)s lake-runtime {settings.tenant} %(message)s"
    )
    # What an earlier epoch spilled before it was killed is nobody's.
    shutil.rmtree(settings.spill_dir.parent, ignore_errors=True)
    settings.spill_dir.mkdir(parents=True, exist_ok=True)
    server = uvicorn.Server(_configuration())

    def stop(drain_seconds: float) -> None:
        server.config.timeout_graceful_shutdown = math.ceil(drain_seconds)
        server.should_exit = True

    def ask_to_exit(*_: object) -> None:
        server.should_exit = True

    for number in STOPPING:
        # Until the server listens to signals itself; and it raises one again after it has drained, which
        # must not undo a clean exit.
        signal.signal(number, ask_to_exit)
    server.config.app = RuntimeApp(settings, Deadlines(page), stop)
    with contextlib.closing(listener), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve_beating(server, listener, page))


async def _serve_beating(server: uvicorn.Server, listener: socket.socket, page: DeadlinePage) -> None:
    """Serves, and gives signs of life: the host ends a process that gives none."""
    beating = asyncio.create_task(_beat(page))
    try:
        await server.serve(sockets=[listener])
    finally:
        beating.cancel()


async def _beat(page: DeadlinePage) -> None:
    while True:
        page.beat()
        await asyncio.sleep(_BEAT_SECONDS)


def _configuration() -> uvicorn.Config:
    return uvicorn.Config(
        app="",
        http=_Connection,
        loop="uvloop",
        lifespan="off",
        ws="none",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
