"""A real MCP server of the official package, as a child over its pipes or behind HTTP."""

import asyncio
import contextlib
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

    return server


@asynccontextmanager
async def serve_mcp(kind: str = "streamable-http") -> AsyncIterator[str]:
    """The server's address."""
    made: MCPServer = make_server()
    app: Any = made.sse_app() if kind == "sse" else made.streamable_http_app()
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=1)
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


if __name__ == "__main__":
    make_server().run("stdio")
    sys.exit(0)
