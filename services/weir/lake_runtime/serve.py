"""What a forked process becomes: one tenant's runtime on an inherited socket, until it is told to end."""

import asyncio
import contextlib
import logging
import math
import shutil
import signal
import socket

import uvicorn

# uvicorn loads these by name when it starts: loaded here, they are in the host before it forks.
import uvicorn.lifespan.off  # pyright: ignore[reportUnusedImport]
import uvicorn.protocols.http.httptools_impl  # pyright: ignore[reportUnusedImport]
import uvloop

from weir.lake_runtime.app import RuntimeApp
from weir.lake_runtime.confine import STOPPING
from weir.lake_runtime.deadline import DeadlinePage, Deadlines
from weir.lake_runtime.settings import RuntimeSettings

_DRAIN_SECONDS = 4


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
        runner.run(server.serve(sockets=[listener]))


def _configuration() -> uvicorn.Config:
    return uvicorn.Config(
        app="",
        http="httptools",
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
