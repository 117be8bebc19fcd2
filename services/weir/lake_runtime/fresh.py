"""A runtime's process that was started and not forked: its socket, its page and its order are open descriptors."""

import os
import socket
import sys

import msgspec

from weir.lake_runtime.confine import keep_buffers
from weir.lake_runtime.deadline import DeadlinePage
from weir.lake_runtime.serve import serve
from weir.lake_runtime.settings import RuntimeSettings


def main(listener: int, page: int, order: int) -> None:
    with os.fdopen(order, "rb") as stream:
        settings = msgspec.json.decode(
            stream.read(), type=RuntimeSettings, dec_hook=lambda kind, value: kind(value)
        )
    keep_buffers()
    serve(settings, socket.socket(fileno=listener), DeadlinePage(page))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
