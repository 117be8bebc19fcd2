"""Serving an ASGI app: uvicorn on uvloop, one process, drained on SIGTERM."""

from typing import Any
from urllib.parse import urlsplit

import uvicorn

# Longer than the longest stream that a drain should wait for; the supervisor's patience is longer still.
DRAIN_SECONDS = 20


def serve(app: Any, *, host: str, port: int) -> None:
    """Runs until SIGTERM or SIGINT, then lets open requests end."""
    uvicorn.run(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=2048,
        # Above the clients' own patience with an idle connection, so that it is never us who close under a request.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


def address_of(url: str) -> tuple[str, int]:
    """Host and port of a service's URL."""
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 80
