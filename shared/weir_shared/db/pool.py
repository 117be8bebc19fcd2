"""Units of work on Postgres. The only importer of asyncpg.

A tenant's unit runs as the role `weir_app` under row-level security, and every statement names the tenant
besides. Work that crosses tenants by design runs as the owner of the tables, in functions that say `any`.
"""

import asyncio
import re
import socket
import sys
import time
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
import msgspec
from asyncpg import Record

from weir_shared.db.pulse import Pulse, Wait
from weir_shared.errors import Unavailable
from weir_shared.ids import parse_uuid
from weir_shared.telemetry.metrics import gauge, histogram

__all__ = ["Connection", "Database", "ForeignKeyViolation", "Record", "UniqueViolation", "open_database"]

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy  # type: ignore[type-arg]
UniqueViolation = asyncpg.UniqueViolationError
ForeignKeyViolation = asyncpg.ForeignKeyViolationError

ACQUIRE_SECONDS = 5
# Of a server that speaks; one that is silent is given up sooner (`pulse`).
STATEMENT_SECONDS = 10
# A server that is silent does not answer a rollback or a cancellation either: the connection is dropped instead.
UNDO_SECONDS = 2
# A connection whose other end has heard nothing of us, or we of it, for so long is dead.
LINE_SECONDS = 4
CLOSE_SECONDS = 2

# The first byte of a jsonb value on the wire.
JSONB_VERSION = b"\x01"
# An escaped NUL, and not the text `\\u0000` whose backslash is itself escaped.
_ESCAPED_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")

WAIT_SECONDS = histogram("database_wait_seconds", "Time a unit of work waited for a connection to Postgres")
CONNECTIONS = gauge(
    "database_connections", "Connections to Postgres of this process, by what they do", "state"
)

_UNREACHABLE = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    # The server has ended the session, and the end of the stream is still to come.
    asyncpg.InternalClientError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
)


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"

    def __init__(self) -> None:
        super().__init__("The database cannot be reached; try again shortly", headers={"Retry-After": "2"})


class Database:
    """A pool of connections, handed out one unit of work at a time."""

    def __init__(self, pool: asyncpg.Pool, dsn: str) -> None:
        self._pool = pool
        # Connections that were open during a silence may have died in it without a word.
        self._pulse = Pulse(partial(_answers, dsn), pool.expire_connections)

    @asynccontextmanager
    async def tenant(
        self, tenant_id: str, *, waits_for_disk: bool = True
    ) -> AsyncGenerator[Connection, None]:
        """A transaction that sees one tenant only. Committed when the block ends, undone when it raises.

        One that does not wait for the disk is lost with the database's machine, unless a later one that does has
        been committed: those go to the disk in their order.
        """
        if parse_uuid(tenant_id) != tenant_id:
            raise ValueError("a tenant id is a canonical UUID")
        # One round trip; the simple protocol takes no parameters, hence the check above.
        begin = f"begin; set local role weir_app; set local app.tenant_id = '{tenant_id}'"
        if not waits_for_disk:
            begin += "; set local synchronous_commit = off"
        async with self._unit(begin) as connection:
            yield connection

    @asynccontextmanager
    async def any_tenant(self) -> AsyncGenerator[Connection, None]:
        """A transaction across tenants, for claims, sweeps and credentials."""
        async with self._unit("begin") as connection:
            yield connection

    def connections(self) -> tuple[int, int]:
        """How many are idle, and how many are busy."""
        idle = self._pool.get_idle_size()
        return idle, self._pool.get_size() - idle

    async def ping(self) -> None:
        async with self.any_tenant() as connection:
            await connection.execute("select 1")

    async def close(self) -> None:
        self._pulse.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def _unit(self, begin: str) -> AsyncGenerator[Connection, None]:
        if self._pulse.is_silent:
            raise DatabaseUnavailable
        with self._pulse.watched() as wait:
            connection = await self._acquire(wait)
            try:
                wait.give_up = connection.terminate
                await connection.execute(begin)
                try:
                    yield connection
                except BaseException:
                    await _undo(connection)
                    raise
                await connection.execute("commit")
                self._pulse.heard()
            except _UNREACHABLE as fault:
                if isinstance(fault, asyncpg.InternalClientError):
                    connection.terminate()
                raise DatabaseUnavailable from fault
            finally:
                wait.end()
                await self._give_back(connection)

    async def _acquire(self, wait: Wait) -> Connection:
        asked = time.perf_counter()
        try:
            async with asyncio.timeout(ACQUIRE_SECONDS) as limit:
                wait.give_up = partial(limit.reschedule, 0)
                connection = await self._pool.acquire()
        except _UNREACHABLE:
            raise DatabaseUnavailable from None
        WAIT_SECONDS.observe(time.perf_counter() - asked)
        return connection

    async def _give_back(self, connection: Connection) -> None:
        try:
            await self._pool.release(connection, timeout=UNDO_SECONDS)
        except (TimeoutError, asyncpg.InternalClientError):
            # The pool has dropped it and opens another; or it has ended in this moment, and is given back by that.
            return


async def _undo(connection: Connection) -> None:
    if connection.is_closed():
        return
    try:
        async with asyncio.timeout(UNDO_SECONDS):
            await connection.execute("rollback")
    except TimeoutError:
        connection.terminate()


class Unit(Database):
    """An open unit of work in the place of a database: what is done through it is done within that unit.

    Each inner unit is undone by itself when it raises, and all of them with the unit that they are in.
    """

    def __init__(self, connection: Connection, tenant_id: str) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    @asynccontextmanager
    async def tenant(
        self, tenant_id: str, *, waits_for_disk: bool = True
    ) -> AsyncGenerator[Connection, None]:
        if tenant_id != self._tenant_id:
            raise ValueError("a unit of work is one tenant's")
        await self._connection.execute("savepoint inner_unit")
        try:
            yield self._connection
        except BaseException:
            if not self._connection.is_closed():
                await self._connection.execute("rollback to savepoint inner_unit")
            raise
        await self._connection.execute("release savepoint inner_unit")

    @asynccontextmanager
    async def any_tenant(self) -> AsyncGenerator[Connection, None]:
        raise NotImplementedError("a unit of work is one tenant's")
        yield self._connection


async def open_database(dsn: str, *, size: int = 10, warm: int = 1) -> Database:
    """A database whose jsonb columns are Python values and whose uuids are texts.

    `warm` connections are there from the beginning: one that is opened when many want one at once takes ten turns
    of an event loop that is busy already.

    Connections are not reset between units: nothing here leaves state in a session, and the reset costs more
    than a short read.
    """
    pool = await asyncpg.create_pool(
        dsn,
        min_size=warm,
        max_size=size,
        init=_prepare,
        reset=_no_reset,
        command_timeout=STATEMENT_SECONDS,
        server_settings={"application_name": "weir"},
    )
    database = Database(pool, dsn)
    _opened.add(database)
    return database


_opened: weakref.WeakSet[Database] = weakref.WeakSet()
CONNECTIONS.labels("idle").set_function(lambda: sum(one.connections()[0] for one in _opened))
CONNECTIONS.labels("busy").set_function(lambda: sum(one.connections()[1] for one in _opened))


async def _answers(dsn: str) -> bool:
    """Whether the server has a word for us, if only one of refusal; it may take as long as it is given."""
    try:
        connection = await asyncpg.connect(dsn, server_settings={"application_name": "weir-pulse"})
        try:
            await connection.execute("select 1")
            await connection.close()
        finally:
            connection.terminate()
    except asyncpg.PostgresError:
        return True
    except _UNREACHABLE:
        return False
    return True


async def _prepare(connection: asyncpg.Connection) -> None:  # type: ignore[type-arg]
    _mind_the_line(connection)
    await _teach_types(connection)


def _mind_the_line(connection: asyncpg.Connection) -> None:  # type: ignore[type-arg]
    """Has the system end a connection whose line is dead: by itself it would send anew for a quarter of an hour."""
    line = connection._transport.get_extra_info("socket")  # pyright: ignore[reportPrivateUsage]
    if sys.platform != "linux" or line.family == socket.AF_UNIX:
        return
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, LINE_SECONDS // 2)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LINE_SECONDS * 1000)


async def _teach_types(connection: asyncpg.Connection) -> None:  # type: ignore[type-arg]
    await connection.set_type_codec(
        "jsonb",
        encoder=_encode_json,
        decoder=_decode_json,
        schema="pg_catalog",
        format="binary",
    )
    # Ids are texts everywhere: in paths, bodies, tickets and statements.
    await connection.set_type_codec("uuid", encoder=str, decoder=str, schema="pg_catalog", format="text")
    # Arrays of these are looked up when a statement first has one: now rather than in the middle of a rush.
    await connection.fetchrow("select $1::jsonb[], $2::uuid[]", [], [])


def _encode_json(value: Any) -> bytes:
    # jsonb refuses the NUL character, which text of a model or a tool may hold.
    return JSONB_VERSION + _ESCAPED_NUL.sub(rb"\1", msgspec.json.encode(value))


def _decode_json(content: bytes) -> Any:
    return msgspec.json.decode(content[1:])


async def _no_reset(_: Any) -> None:
    """Nothing to undo."""
