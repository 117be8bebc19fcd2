"""Callers who ask for a great deal and do not read it: what they cost, and that they are cut off."""

import asyncio
import json
import socket
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest
from tests.benchmarks.standing import LAKE, Standing
from tests.e2e.tenants import session_of
from tests.promises import FULL, Promise, size
from tests.starting import started

from weir.context_lake.admission import RUNNING
from weir_shared.db.pool import open_database

STALLED = size(40, 200)
# As many as the desk works on at once for one tenant.
TENANTS = STALLED // RUNNING
# One in so many takes a byte a second.
DRIPS_EVERY = 8
UNARY = size(60, 400)
STALLED_SECONDS = size(6, 60)
MOST_MEBIBYTES = 50
MOST_TIMES = 2
MEBIBYTE = 1024 * 1024
SERVICES = ("gateway", "context-lake", "agent-engine")
# 50 MB and more, made as it is read.
LARGE = "select value as v, repeat('x', 100) as w from generate_series(1, 600000)"


@dataclass
class Stage:
    standing: Standing
    greedy: list[dict[str, str]]
    """Headers of tenants whose callers stall."""
    other: httpx.AsyncClient
    """A caller of another tenant."""


class Stalled:
    """A caller who has read the head of an answer and then nothing more, or hardly anything."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    @classmethod
    async def ask(cls, url: str, headers: dict[str, str]) -> "Stalled":
        loop = asyncio.get_running_loop()
        parts = urlsplit(url)
        line = socket.socket()
        # As little as the system allows: what is sent waits at the platform.
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        line.setblocking(False)
        await loop.sock_connect(line, (parts.hostname, parts.port))
        body = json.dumps({"query": LARGE}).encode()
        told = headers | {
            "Host": "x",
            "Accept": "application/x-ndjson",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        }
        lines = [f"POST {LAKE}/sql HTTP/1.1", *(f"{name}: {value}" for name, value in told.items())]
        await loop.sock_sendall(line, "\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        head = b""
        while b"\r\n\r\n" not in head:
            head += (piece := await loop.sock_recv(line, 64))
            assert piece, head
        assert head.startswith(b"HTTP/1.1 200 "), head
        return cls(line)

    async def drip(self) -> None:
        loop = asyncio.get_running_loop()
        while await loop.sock_recv(self._line, 1):
            await asyncio.sleep(1)

    def is_cut(self) -> bool:
        """Whether the other end has gone: the system tells without anything being read."""
        return self._line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0 or (
            self._line.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1
        )

    def close(self) -> None:
        self._line.close()


@pytest.fixture
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    settings = {"WEIR_DEMO": "0", "WEIR_STALLED_READER_SECONDS": str(STALLED_SECONDS)}
    with started(tmp_path_factory.mktemp("stalled"), **settings) as platform:
        standing = Standing(platform)
        tenants = [str(uuid.uuid4()) for _ in range(TENANTS + 1)]
        database = await open_database(standing.environment["WEIR_DATABASE_URL"], size=1)
        async with database.any_tenant() as connection:
            await connection.execute(
                "insert into tenants (id) select id from unnest($1::uuid[]) t(id)", tenants
            )
        await database.close()
        *greedy, other = [session_of(platform, tenant) for tenant in tenants]
        async with httpx.AsyncClient(base_url=platform.url, headers=other, timeout=60) as http:
            for headers in (*greedy, other):
                woken = await http.post(f"{LAKE}/sql", json={"query": "select 1 as one"}, headers=headers)
                assert woken.status_code == 200, woken.text
            yield Stage(standing, greedy, http)


async def p99_ms(http: httpx.AsyncClient, seed: int) -> float:
    """Of reads of both halves of the platform, each of which is answered."""
    taken: list[float] = []
    for n in range(UNARY // 2):
        for ask in (
            http.get("/api/v1/agents"),
            http.post(f"{LAKE}/sql", json={"query": f"select {seed + n} as n"}),
        ):
            began = time.monotonic()
            answer = await ask
            assert answer.status_code == 200, answer.text
            taken.append(1000 * (time.monotonic() - began))
    taken.sort()
    return taken[min(len(taken) - 1, len(taken) * 99 // 100)]


def mebibytes(standing: Standing) -> dict[str, int]:
    found = standing.processes()
    return {service: found[service] // MEBIBYTE for service in SERVICES}


@pytest.mark.promise("P19")
@pytest.mark.timeout(900)
async def test_readers_who_stall_cost_little_hurt_nobody_and_are_cut_off(
    stage: Stage, promise: Promise
) -> None:
    standing = stage.standing
    quiet = await p99_ms(stage.other, 0)
    before = mebibytes(standing)
    stalled = await asyncio.gather(
        *(
            Stalled.ask(standing.platform.url, headers)
            for headers in stage.greedy
            for _ in range(STALLED // len(stage.greedy))
        )
    )
    began = time.monotonic()
    drips = [asyncio.create_task(one.drip()) for one in stalled[::DRIPS_EVERY]]
    await asyncio.sleep(1)
    after = mebibytes(standing)
    assert not any(one.is_cut() for one in stalled)
    grown = {service: after[service] - before[service] for service in SERVICES}
    beside = await p99_ms(stage.other, 10_000)
    assert max(grown.values()) < MOST_MEBIBYTES, grown
    times = beside / quiet
    if FULL:
        assert times < MOST_TIMES
    while not all(one.is_cut() for one in stalled):
        assert time.monotonic() - began < 2 * STALLED_SECONDS + 10, [one.is_cut() for one in stalled]
        await asyncio.sleep(0.2)
    cut = time.monotonic() - began
    for drip in drips:
        drip.cancel()
    await asyncio.gather(*drips, return_exceptions=True)
    for one in stalled:
        one.close()
    # Their places are free: each of these tenants has an answer without waiting.
    async with asyncio.timeout(20):
        while standing.metric("weir_lake_sql_running"):
            await asyncio.sleep(0.2)
        for headers in stage.greedy:
            answer = await stage.other.post(f"{LAKE}/sql", json={"query": "select 2"}, headers=headers)
            assert answer.status_code == 200
    most = ", ".join(f"{service} {mib:+d}" for service, mib in grown.items())
    promise.held(
        f"{STALLED} stalled readers of {TENANTS} tenants on answers of 60 MB ({len(drips)} of them at a byte a second): "
        f"MiB {most} (each below {MOST_MEBIBYTES}); {UNARY} unary requests of another tenant all answered, p99 "
        f"{beside:.0f} ms is {times:.1f}x of {quiet:.0f} ms; all cut off within {cut:.0f} s, all places free again"
    )
