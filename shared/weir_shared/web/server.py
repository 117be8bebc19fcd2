"""Serving an ASGI app: uvicorn on uvloop, one process, drained on SIGTERM."""

import gc
import sys
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from weir_shared.web.stalled import StalledReaders

# Longer than the longest stream that a drain should wait for; the supervisor's patience is longer still.
DRAIN_SECONDS = 20
# What may wait in one connection for its reader: the next piece of a large answer is read meanwhile. A reader
# that stalls costs as much and a piece more, so there is less for each when there are many.
WRITE_BUFFER_BYTES = 512 * 1024
FEW = 8
LITTLE_BUFFER_BYTES = 16 * 1024
# New objects until the collector looks for cycles, and looks until it goes through the older ones as well. Hardly
# anything here is in a cycle, and with 500 open streams a look at everything stops all of them for 70 ms.
COLLECT_AFTER = (10_000, 20, 50)
# uvicorn's own, of a program that it runs.
_NOT_STARTED = 3


class _Connection(HttpToolsProtocol):
    def connection_made(self, transport: Any) -> None:
        few = len(self.connections) < FEW
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES if few else LITTLE_BUFFER_BYTES)
        super().connection_made(transport)


def serve(app: Any, *, host: str, port: int, stalled_reader_seconds: float = 60) -> None:
    """Runs until SIGTERM or SIGINT, then lets open requests end."""
    # What is loaded by now stays: looked through again and again by the collector, it stops requests for 40 ms.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    configuration = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=_Connection,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=2048,
        # Above the clients' own patience with an idle connection, so that it is never us who close under a request.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_notify=max(1, round(stalled_reader_seconds / 4)),
    )
    server = uvicorn.Server(configuration)
    configuration.callback_notify = StalledReaders(
        server.server_state.connections, stalled_reader_seconds
    ).look
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(_NOT_STARTED)


def address_of(url: str) -> tuple[str, int]:
    """Host and port of a service's URL."""
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 80
