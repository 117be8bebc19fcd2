"""A real MCP server of the official package, as a child over its pipes or behind HTTP."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer


def make_server() -> MCPServer:
    server = MCPServer("fake")

    @server.tool()
    async def echo(text: str) -> str:
        """Says it again."""
        return f"echo: {text}"

    @server.tool(name="device.list")
    async def devices() -> str:
        """Lists the devices."""
        return "lamp, oven"

    @server.tool()
    async def whoami(context: Context) -> str:
        """Tells who calls."""
        await asyncio.sleep(0.02)
        headers = context.headers or {}
        seen = {name: headers.get(name) for name in ("authorization", "x-user", "x-secret")}
        return " ".join(f"{name}={value}" for name, value in seen.items())

    @server.tool()
    async def fail() -> str:
        """Fails."""
        raise ValueError("permission denied")

    @server.tool()
    async def hang() -> str:
        """Never answers."""
        await asyncio.sleep(3600)
        return "at last"

    return server


class Seen:
    """What a server was asked: the method of each message, and DELETE for a session that its client ended."""

    def __init__(self) -> None:
        self.methods: list[str] = []

    def count(self, method: str) -> int:
        return self.methods.count(method)


@asynccontextmanager
async def serve_mcp(
    kind: str = "streamable-http", *, port: int = 0, seen: Seen | None = None
) -> AsyncIterator[str]:
    """The server's address."""
    made: MCPServer = make_server()
    app: Any = made.sse_app() if kind == "sse" else made.streamable_http_app()
    if seen is not None:
        app = watched(app, seen)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=1)
    )
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), task.result()
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/{'sse' if kind == 'sse' else 'mcp'}"
    finally:
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await task


def watched(app: Any, seen: Seen) -> Any:
    """The app, with what it is asked written down."""

    async def watch(scope: Any, receive: Any, send: Any) -> None:
        async def heard() -> Any:
            message = await receive()
            if message.get("body"):
                seen.methods.append(json.loads(message["body"]).get("method", ""))
            return message

        if scope.get("method") == "DELETE":
            seen.methods.append("DELETE")
        await app(scope, heard, send)

    return watch


if __name__ == "__main__":
    make_server().run("stdio")
    sys.exit(0)
