"""The least that can stand between a model and its reader: bytes as they come, one connection for another.

`python -m tests.benchmarks.plain_relay PORT UPSTREAM_PORT` measures what the machine could do at best with a
process between the two, against which the engine's and the gateway's figures are held.
"""

import asyncio
import sys
from typing import Any

import uvloop


class _Upstream(asyncio.Protocol):
    def __init__(self, caller: asyncio.Transport) -> None:
        self._caller = caller

    def data_received(self, data: bytes) -> None:
        self._caller.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._caller.close()


class _Caller(asyncio.Protocol):
    def __init__(self, port: int) -> None:
        self._port = port
        self._early: list[bytes] = []
        self._upstream: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self._opening = asyncio.create_task(self._open(transport))

    def data_received(self, data: bytes) -> None:
        if self._upstream is None:
            self._early.append(data)
        else:
            self._upstream.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._opening.cancel()
        if self._upstream is not None:
            self._upstream.close()

    async def _open(self, caller: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        upstream, _ = await loop.create_connection(lambda: _Upstream(caller), "127.0.0.1", self._port)
        upstream.writelines(self._early)
        self._upstream = upstream


async def _serve(port: int, upstream: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Caller(upstream), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
