"""A Postgres that falls silent holds nobody for long, and one that is only slow is waited for."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from tests.conftest import migrated_database
from tests.fakes.fault_proxy import FaultProxy, fault_proxy

from weir_shared.db import pulse
from weir_shared.db.pool import Database, DatabaseUnavailable, open_database

# How long a silence may hold a unit of work; the rest is slack of the machine.
SILENCE_SECONDS = pulse.PATIENCE_SECONDS + pulse.PROBE_SECONDS
SLACK_SECONDS = 1.5


@pytest.fixture(scope="module")
async def dsn(postgres_dsn: str) -> AsyncIterator[str]:
    async with migrated_database(postgres_dsn) as dsn:
        yield dsn


@pytest.fixture
async def line(dsn: str) -> AsyncIterator[FaultProxy]:
    address = urlsplit(dsn)
    async with fault_proxy(address.hostname or "", address.port or 0) as proxy:
        yield proxy


@pytest.fixture
async def database(dsn: str, line: FaultProxy) -> AsyncIterator[Database]:
    opened = await open_database(line.in_url(dsn), size=2)
    yield opened
    await line.set("good")
    await opened.close()


async def refused_after(database: Database) -> float:
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        await database.ping()
    return time.monotonic() - began


async def test_a_silence_holds_no_unit_and_those_that_follow_are_told_at_once(
    database: Database, line: FaultProxy
) -> None:
    await asyncio.gather(database.ping(), database.ping())
    await line.set("black_hole")
    # Two with a statement under way, and four that wait for a connection.
    waited = await asyncio.gather(*(refused_after(database) for _ in range(6)))
    assert max(waited) < SILENCE_SECONDS + SLACK_SECONDS
    told = [await refused_after(database) for _ in range(20)]
    assert max(told) < 0.5
    await line.set("good")
    began = time.monotonic()
    while time.monotonic() - began < 5:
        try:
            await database.ping()
            break
        except DatabaseUnavailable:
            await asyncio.sleep(0.05)
    assert time.monotonic() - began < pulse.AGAIN_SECONDS + SLACK_SECONDS
    # Every place is there again.
    await asyncio.gather(*(database.ping() for _ in range(10)))


async def test_a_silence_in_the_midst_of_a_unit_ends_it(database: Database, line: FaultProxy) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with database.any_tenant() as connection:
            await connection.execute("select 1")
            await line.set("black_hole")
            began = time.monotonic()
            await connection.execute("select 1")
    assert time.monotonic() - began < SILENCE_SECONDS + SLACK_SECONDS


async def test_a_slow_statement_of_a_server_that_speaks_is_waited_for(database: Database) -> None:
    slow = SILENCE_SECONDS * 2

    async def sleep() -> None:
        async with database.any_tenant() as connection:
            await connection.execute(f"select pg_sleep({slow})")

    # And so is a connection, while both are in use.
    await asyncio.gather(sleep(), sleep(), database.ping())


async def test_connections_that_may_have_died_in_a_silence_are_not_used_again(
    database: Database, line: FaultProxy
) -> None:
    async with database.any_tenant() as connection:
        before = await connection.fetchval("select pg_backend_pid()")
    await line.set("black_hole")
    await refused_after(database)
    await line.set("good")
    async with asyncio.timeout(10):
        while True:
            try:
                async with database.any_tenant() as connection:
                    after = await connection.fetchval("select pg_backend_pid()")
                break
            except DatabaseUnavailable:
                await asyncio.sleep(0.05)
    assert before != after


async def test_a_connection_that_ends_while_it_is_given_back_fails_nobody(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = await open_database(dsn, size=1)
    release = asyncpg.Pool.release

    async def ending(pool: asyncpg.Pool, connection: Any, *, timeout: float) -> None:
        asyncio.get_running_loop().call_soon(connection._con.terminate)
        await release(pool, connection, timeout=timeout)

    monkeypatch.setattr(asyncpg.Pool, "release", ending)
    await database.ping()
    monkeypatch.undo()
    await asyncio.wait_for(database.ping(), 3)
    await database.close()


async def test_a_process_that_was_stopped_takes_nobody_for_silent(database: Database) -> None:
    async def sleep() -> None:
        async with database.any_tenant() as connection:
            await connection.execute("select pg_sleep(2)")

    async def stop() -> None:
        # While the server is asked.
        await asyncio.sleep(pulse.PATIENCE_SECONDS + 0.01)
        time.sleep(SILENCE_SECONDS + 0.5)  # noqa: ASYNC251

    await asyncio.gather(sleep(), stop())


async def test_a_database_that_is_silent_can_be_left(dsn: str, line: FaultProxy) -> None:
    database = await open_database(line.in_url(dsn), size=2)
    await database.ping()
    await line.set("black_hole")
    await refused_after(database)
    async with asyncio.timeout(5):
        await database.close()


async def test_a_line_that_dies_without_a_word_is_noticed_by_the_system(dsn: str) -> None:
    """Of one connection alone, while the server speaks on others."""
    database = await open_database(dsn, size=1)
    async with database.any_tenant() as connection:
        held: asyncpg.Connection = connection._con  # type: ignore[type-arg, union-attr]
        line = held._transport.get_extra_info("socket")
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert 0 < line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) < 5000
    await database.close()
