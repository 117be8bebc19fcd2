"""The connections of all tenants: one for each server, opened on first use, shared by turns, closed when idle."""

import asyncio
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import structlog
from msgspec import Struct

from weir.agent_engine.mcp.breaker import Breaker
from weir.agent_engine.mcp.configured import McpServers
from weir.agent_engine.mcp.connection import Connection, McpTrouble, NotDelivered, Target, Way
from weir.agent_engine.tables.mcp_servers import McpServerRow

if TYPE_CHECKING:
    from mcp.types import CallToolResult, Tool

IDLE_SECONDS = 300.0
LOOK_SECONDS = 30.0
TOOLS_SECONDS = 300.0

log = structlog.get_logger(__name__)


class CircuitOpen(McpTrouble):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"[UNAVAILABLE] circuit breaker open for the MCP server '{name}'; it failed repeatedly, try later"
        )


class _Line:
    """What is known of one server of one tenant."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.breaker = Breaker()
        self.last_failure: float | None = None
        self.connection: Connection | None = None
        self.used = time.monotonic()
        self.busy = 0
        self.tools: list[Tool] | None = None
        self.tools_at = 0.0
        self.tools_of: datetime | None = None
        self.trouble: str | None = None
        self.trouble_at = 0.0
        self.lock = asyncio.Lock()


class BreakerState(Struct, frozen=True):
    name: str
    state: Literal["closed", "open", "half_open"]
    failure_count: int
    last_failure: float | None


class Switchboard:
    def __init__(self, servers: McpServers, way: Way) -> None:
        self._servers = servers
        self._way = way
        self._lines: dict[tuple[str, str], _Line] = {}

    async def tools_of(self, tenant_id: str, row: McpServerRow, *, fresh: bool = False) -> "list[Tool]":
        """The server's tools, kept for a while. Raises McpTrouble."""
        line = self._line(tenant_id, row)
        asked = time.monotonic()
        async with line.lock:
            is_kept = line.tools_of == row.updated_at and time.monotonic() - line.tools_at < TOOLS_SECONDS
            if line.tools is not None and is_kept and not fresh:
                return line.tools
            if line.trouble is not None and line.trouble_at > asked:
                # Another turn has just tried, while this one waited for it.
                raise McpTrouble(line.trouble)
            connection = await self._connection(tenant_id, row, line)
            if not line.breaker.admits():
                raise CircuitOpen(row.name)
            try:
                try:
                    line.tools = await connection.list_tools()
                except NotDelivered:
                    connection = await self._connection(tenant_id, row, line)
                    line.tools = await connection.list_tools()
            except McpTrouble as trouble:
                self._failed(tenant_id, line, trouble)
                raise
            line.tools_at, line.tools_of = time.monotonic(), row.updated_at
            line.breaker.succeeded()
            return line.tools

    async def call(
        self,
        tenant_id: str,
        row: McpServerRow,
        tool: str,
        arguments: dict[str, Any],
        headers: dict[str, str],
    ) -> "CallToolResult":
        """A call that a server never took, since it has restarted, is made once more. Raises McpTrouble, TimeoutError."""
        line = self._line(tenant_id, row)
        async with line.lock:
            connection = await self._connection(tenant_id, row, line)
        if not line.breaker.admits():
            raise CircuitOpen(row.name)
        line.busy += 1
        try:
            try:
                result = await connection.call(tool, arguments, headers)
            except NotDelivered:
                async with line.lock:
                    connection = await self._connection(tenant_id, row, line)
                result = await connection.call(tool, arguments, headers)
        except (McpTrouble, TimeoutError) as trouble:
            if connection.is_lost or isinstance(trouble, TimeoutError):
                self._failed(tenant_id, line, trouble)
            else:
                line.breaker.succeeded()
            raise
        finally:
            line.busy -= 1
            line.used = time.monotonic()
        line.breaker.succeeded()
        return result

    def breakers(self, tenant_id: str) -> list[BreakerState]:
        return [
            BreakerState(line.name, line.breaker.state, line.breaker.failure_count, line.last_failure)
            for (tenant, _), line in sorted(self._lines.items(), key=lambda entry: entry[1].name)
            if tenant == tenant_id
        ]

    def reset(self, tenant_id: str, row: McpServerRow) -> None:
        line = self._line(tenant_id, row)
        line.breaker.succeeded()
        line.last_failure = None

    async def forget(self, tenant_id: str, id: str) -> None:
        """Closes what was open to a server that is no more."""
        line = self._lines.pop((tenant_id, id), None)
        if line is not None and line.connection is not None:
            await line.connection.close()

    async def close_idle(self) -> None:
        """For ever: closes connections that nobody has used for a while."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for line in list(self._lines.values()):
                idle = time.monotonic() - line.used > IDLE_SECONDS and not line.busy
                if line.connection is not None and (idle or line.connection.is_lost) and not line.busy:
                    gone, line.connection = line.connection, None
                    await gone.close()

    async def close(self) -> None:
        open_ones = [line.connection for line in self._lines.values() if line.connection is not None]
        await asyncio.gather(*(connection.close() for connection in open_ones))

    def _line(self, tenant_id: str, row: McpServerRow) -> _Line:
        line = self._lines.setdefault((tenant_id, row.id), _Line(row.name))
        line.used = time.monotonic()
        return line

    async def _connection(self, tenant_id: str, row: McpServerRow, line: _Line) -> Connection:
        """The connection there is, unless it is lost or the server was configured anew."""
        target = await self._target(tenant_id, row)
        if line.connection is not None and line.connection.target != target:
            # Those who use it still are told that it was closed.
            old, line.connection, line.tools = line.connection, None, None
            line.breaker.succeeded()
            await old.close()
        if line.connection is None or line.connection.is_lost:
            if line.connection is not None:
                await line.connection.close()
            if line.breaker.state == "open":
                raise CircuitOpen(row.name)
            line.connection = Connection(target, self._way)
        return line.connection

    async def _target(self, tenant_id: str, row: McpServerRow) -> Target:
        env = await self._servers.environment(tenant_id, row)
        secret = {"api_key": row.auth_key_env}.get(row.auth_type, row.auth_token_env)
        has_secret = row.auth_type in ("api_key", "oauth2", "service_account")
        return Target(
            name=row.name,
            type=row.type,
            url=row.url or "",
            command=row.command or "",
            args=tuple(row.args),
            env=tuple(sorted(env.items())),
            bearer=env.get(secret or "") if has_secret else None,
        )

    def _failed(self, tenant_id: str, line: _Line, trouble: BaseException) -> None:
        line.breaker.failed()
        line.last_failure = time.time()
        line.trouble, line.trouble_at = str(trouble), time.monotonic()
        log.warning("mcp server failed", tenant_id=tenant_id, server=line.name, trouble=str(trouble)[:200])
