"""One connection to one MCP server: a task of its own opens, holds and closes it; anyone may use it meanwhile."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import structlog
from msgspec import Struct

from weir_shared.egress import ForbiddenAddress

if TYPE_CHECKING:
    import httpx2
    from mcp.client import Client
    from mcp.types import CallToolResult, Tool

CONNECT_SECONDS = 10.0
CALL_SECONDS = 30.0
CLOSE_SECONDS = 5.0
MOST_BYTES = 4 * 1024 * 1024
MOST_TOOLS = 200
MOST_PAGES = 20
# What the library says when there is nobody to ask any more, or nothing came back.
CONNECTION_GONE = (-32000, -32001)
# How a server says that it does not know a session, whatever words it puts beside it.
NO_SESSION, SESSION = 404, "mcp-session-id"


log = structlog.get_logger(__name__)


class McpTrouble(Exception):
    """The server cannot be used; the message holds nothing secret and is fit for the model."""


class NotDelivered(McpTrouble):
    """The server never took the call: it may be made once more over a new connection."""


class CallUnderWay(Struct):
    """One call on its way: the caller's headers, for this server alone, and how far it has come."""

    headers: dict[str, str]
    is_sent: bool = False
    is_sessionless: bool = False
    """The server does not know the session, and has looked at nothing else."""


# What the call under way carries to each request that it takes.
call_under_way: ContextVar[CallUnderWay | None] = ContextVar("call_under_way", default=None)


class Target(Struct, frozen=True, kw_only=True):
    """Where a server is and what it gets; equal as long as nothing of it has changed."""

    name: str
    type: str
    url: str
    command: str
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    bearer: str | None

    def __repr__(self) -> str:
        return f"Target({self.name})"


class Way(Struct, frozen=True):
    """How servers are reached."""

    egress: aiohttp.ClientSession
    allow_private: bool


class Connection:
    """Opened on first use. After trouble it is of no more use: take a new one."""

    def __init__(self, target: Target, way: Way) -> None:
        self.target = target
        self.is_lost = False
        self._way = way
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._end = asyncio.Event()
        self._owner = asyncio.create_task(self._own())

    async def list_tools(self) -> "list[Tool]":
        """Raises McpTrouble."""
        async with self._troubled(CONNECT_SECONDS, {}):
            client = await asyncio.shield(self._ready)
            tools: list[Tool] = []
            cursor = None
            for _ in range(MOST_PAGES):
                page = await client.list_tools(cursor=cursor)
                tools += page.tools
                cursor = page.next_cursor
                if not cursor or len(tools) >= MOST_TOOLS:
                    break
            return tools[:MOST_TOOLS]

    async def call(self, tool: str, arguments: dict[str, Any], headers: dict[str, str]) -> "CallToolResult":
        """Raises McpTrouble, TimeoutError."""
        async with self._troubled(None, headers):
            client = await asyncio.shield(self._ready)
            meta: Any = {"_context": headers} if headers and self.target.type == "stdio" else None
            async with asyncio.timeout(CALL_SECONDS):
                return await client.call_tool(tool, arguments, meta=meta)

    async def close(self) -> None:
        self.is_lost = True
        self._end.set()
        _, late = await asyncio.wait([self._owner], timeout=CLOSE_SECONDS)
        for task in late:
            task.cancel()
            await asyncio.wait([task], timeout=CLOSE_SECONDS)

    @asynccontextmanager
    async def _troubled(self, seconds: float | None, headers: dict[str, str]) -> AsyncGenerator[None]:
        """Whatever a server does wrong becomes McpTrouble; its connection is not used again."""
        from mcp import MCPError  # noqa: PLC0415 - it costs half a second

        under_way = CallUnderWay(headers)
        kept = call_under_way.set(under_way)
        try:
            async with asyncio.timeout(seconds):
                yield
        except MCPError as refusal:
            # The server has answered, and said no; that the connection is gone, the library says in this way too.
            gone = refusal.code in CONNECTION_GONE or under_way.is_sessionless
            self.is_lost = gone or self._owner.done()
            # Of a program nobody knows how far it has read.
            is_unsent = gone and not under_way.is_sent and self.target.type != "stdio"
            kind = NotDelivered if under_way.is_sessionless or is_unsent else McpTrouble
            raise kind(str(refusal)[:500]) from None
        except TimeoutError:
            # One slow tool does not take the connection from the others.
            if seconds is None:
                raise
            self.is_lost = True
            raise McpTrouble(f"it did not answer within {seconds:g} s") from None
        except McpTrouble:
            self.is_lost = True
            raise
        except Exception as fault:  # noqa: BLE001 - the library says in any way what a server did wrong
            self.is_lost = True
            raise McpTrouble(_reason(fault)) from None
        finally:
            call_under_way.reset(kept)

    async def _own(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS) as limit, _client(self.target, self._way) as client:
                limit.reschedule(None)
                self._ready.set_result(client)
                await self._end.wait()
        except TimeoutError:
            self._fail(McpTrouble(f"it could not be connected to within {CONNECT_SECONDS:g} s"))
        except Exception as fault:  # noqa: BLE001 - whatever the library makes of a server's fault is the server's
            self._fail(McpTrouble(_reason(fault)))
        finally:
            self._fail(McpTrouble("its connection was closed"))

    def _fail(self, trouble: McpTrouble) -> None:
        self.is_lost = True
        if not self._ready.done():
            self._ready.set_exception(trouble)
            # Nobody may be waiting for it.
            self._ready.exception()


@asynccontextmanager
async def _client(target: Target, way: Way) -> "AsyncGenerator[Client]":
    from mcp.client import Client  # noqa: PLC0415 - it costs half a second

    # The older handshake is what every server knows. A cache would be keyed by the address alone.
    async with (
        _transport(target, way) as transport,
        Client(transport, mode="legacy", cache=None) as client,
    ):
        yield client


@asynccontextmanager
async def _transport(target: Target, way: Way) -> AsyncGenerator[Any]:
    from mcp.client.sse import sse_client  # noqa: PLC0415 - it costs half a second
    from mcp.client.stdio import StdioServerParameters, stdio_client  # noqa: PLC0415 - it costs half a second
    from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415 - it costs half a second

    if target.type == "stdio":
        with Path(os.devnull).open("w") as silence:  # noqa: ASYNC230 - it is no disk
            parameters = StdioServerParameters(
                command=target.command, args=list(target.args), env=dict(target.env)
            )
            yield stdio_client(parameters, errlog=silence)
    elif target.type == "sse":
        yield sse_client(
            target.url,
            httpx_client_factory=lambda headers=None, timeout=None, auth=None: _http(target, way),
        )
    else:
        async with _http(target, way) as http:
            yield streamable_http_client(target.url, http_client=http, max_sse_event_size=MOST_BYTES)


def _http(target: Target, way: Way) -> "httpx2.AsyncClient":
    import httpx2  # noqa: PLC0415 - it costs half a second

    from weir_shared.egress_httpx2 import EgressTransport  # noqa: PLC0415 - it costs half a second

    class Carried(httpx2.Auth):
        """What the call under way brings, on each request: one connection serves many callers."""

        def auth_flow(self, request: Any) -> Any:
            if target.bearer is not None:
                request.headers["Authorization"] = f"Bearer {target.bearer}"
            under_way = call_under_way.get()
            if under_way is None:
                yield request
                return
            request.headers.update(under_way.headers)
            under_way.is_sent = True
            answer = yield request
            under_way.is_sessionless = answer.status_code == NO_SESSION and SESSION in request.headers

    return httpx2.AsyncClient(
        transport=EgressTransport(way.egress, allow_private=way.allow_private, most_bytes=MOST_BYTES),
        auth=Carried(),
        timeout=httpx2.Timeout(CALL_SECONDS, connect=CONNECT_SECONDS, read=None),
        trust_env=False,
    )


def _reason(fault: BaseException) -> str:
    """The innermost reason of the groups in which the library wraps it, in words that tell no secret."""
    import httpx2  # noqa: PLC0415 - it costs half a second

    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    if isinstance(fault, McpTrouble):
        return str(fault)
    if isinstance(fault, ForbiddenAddress):
        return str(fault)
    if isinstance(fault, httpx2.HTTPStatusError):
        return f"it answered with the status {fault.response.status_code}"
    if isinstance(fault, httpx2.TransportError | OSError):
        return "it cannot be reached" if isinstance(fault, httpx2.ConnectError) else "its answer broke off"
    return f"it does not speak the protocol ({type(fault).__name__})"
