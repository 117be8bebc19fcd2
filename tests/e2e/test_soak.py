"""A soak: half the load that a small machine bears, with leavers and with runtimes that start and stop; nothing grows, nor by a large answer."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, suppress

import httpx
import pytest
from tests.benchmarks.standing import LAKE, Standing
from tests.promises import Promise, size
from tests.starting import started

# The demo's schema with its model that needs no key.
CHAT = "/api/v1/schemas/ask-the-lake/chat"
SERVICES = ("gateway", "context-lake", "agent-engine", "worker")
MEBIBYTE = 1024 * 1024
CLIENTS = 3
# Allocators and caches warm up; what leaks goes on.
MOST_MEBIBYTES, MOST_FILES, MOST_THREADS = 40, 12, 6


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    with started(tmp_path_factory.mktemp("soak")) as platform:
        yield Standing(platform)


def measured(standing: Standing) -> dict[str, Counter[str]]:
    """Of each service: its own memory in MiB, its open files and its threads; and the pools' connections."""
    memory, found = standing.processes(), dict[str, Counter[str]]()
    for service in SERVICES:
        pids = standing.processes_of(service)
        files = threads = 0
        for pid in pids:
            files += len(os.listdir(f"/proc/{pid}/fd"))
            threads += len(os.listdir(f"/proc/{pid}/task"))
        found[service] = Counter(
            memory=memory[service] // MEBIBYTE, files=files, threads=threads, processes=len(pids)
        )
    return found


class Load:
    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self.done = Counter[str]()

    async def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(
            *(self._client(until) for _ in range(CLIENTS)), self._leaver(until), self._vm(until)
        )

    async def _client(self, until: float) -> None:
        async with self._http() as http:
            while time.monotonic() < until:
                for kind, path, body in (
                    ("requests", "/api/v1/agents", None),
                    ("queries", f"{LAKE}/sql", {"query": "select count(*) as n from flights"}),
                    ("turns", CHAT, {"message": "List the tables"}),
                ):
                    answer = await http.request("POST" if body else "GET", path, json=body)
                    assert answer.status_code in (200, 503, 504) if kind == "queries" else 200, answer.text
                    self.done[kind] += 1
                await asyncio.sleep(0.05)

    async def _leaver(self, until: float) -> None:
        """Goes in the middle of a turn and of a large answer."""
        while time.monotonic() < until:
            for path, body in (
                (CHAT, {"message": "How many flights are there?"}),
                (f"{LAKE}/sql", {"query": "select * from flights a, flights b limit 100000"}),
            ):
                async with self._http() as http:
                    with suppress(httpx.TransportError):
                        async with http.stream("POST", path, json=body) as answer:
                            async for _ in answer.aiter_bytes():
                                break
                self.done["disconnects"] += 1
            await asyncio.sleep(0.3)

    async def _vm(self, until: float) -> None:
        async with self._http() as http:
            while time.monotonic() < until:
                await asyncio.sleep(3)
                stopped = await http.post(f"{LAKE}/stop")
                assert stopped.status_code in (200, 202, 409), stopped.text
                await asyncio.sleep(1)
                begun = await http.post(f"{LAKE}/start")
                assert begun.status_code in (200, 202, 409), begun.text
                self.done["starts"] += 1

    def _http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._standing.platform.url, headers=self._standing.headers, timeout=60
        )


async def at_rest(standing: Standing) -> dict[str, Counter[str]]:
    """Measured when every stream and every turn has ended."""
    until = time.monotonic() + 20
    while True:
        opened = standing.metric("weir_sse_open") + standing.metric("weir_active_sessions")
        if opened == 0:
            return measured(standing)
        assert time.monotonic() < until, f"{opened} streams or turns have not ended"
        await asyncio.sleep(0.2)


@pytest.mark.promise("P24")
@pytest.mark.timeout(4000)
async def test_nothing_grows_however_long_it_runs(standing: Standing, promise: Promise) -> None:
    seconds, load = size(30, 600), Load(standing)
    await load.run(10)
    before, warm, pool = (
        await at_rest(standing),
        load.done.copy(),
        standing.metric("weir_database_connections"),
    )
    await load.run(seconds)
    after, now_pool = await at_rest(standing), standing.metric("weir_database_connections")
    done = load.done - warm
    assert min(done[kind] for kind in ("requests", "queries", "turns", "disconnects", "starts")) > 0
    grown = {service: Counter(after[service]) for service in SERVICES}
    for service in SERVICES:
        grown[service].subtract(before[service])
        assert grown[service]["processes"] == 0
        assert grown[service]["memory"] <= MOST_MEBIBYTES, grown
        assert grown[service]["files"] <= MOST_FILES, grown
        assert grown[service]["threads"] <= MOST_THREADS, grown
    # Each of the four pools has ten at most.
    assert now_pool <= pool + 8
    most = {kind: max(one[kind] for one in grown.values()) for kind in ("memory", "files", "threads")}
    told = ", ".join(f"{times} {kind}" for kind, times in done.items())
    promise.held(
        f"{seconds} s: {told}; the most that a service has grown: {most['memory']} MiB, {most['files']} files,"
        f" {most['threads']} threads; {now_pool - pool:+.0f} database connections; 0 streams or turns left"
    )


@pytest.mark.promise("P9")
@pytest.mark.timeout(600)
async def test_a_large_result_passes_the_gateway_and_the_desk_in_little_memory(
    standing: Standing, promise: Promise
) -> None:
    rows, passing = size(2_000_000, 10_000_000), ("gateway", "context-lake")
    sql = "select value, repeat('x', 200) as w from generate_series(1, {})"
    most, received, lines = Counter[str](), 0, 0

    def ask(http: httpx.AsyncClient, rows: int) -> AbstractAsyncContextManager[httpx.Response]:
        body, headers = {"query": sql.format(rows)}, {"Accept": "application/x-ndjson"}
        return http.stream("POST", f"{LAKE}/sql", json=body, headers=headers)

    async with httpx.AsyncClient(
        base_url=standing.platform.url, headers=standing.headers, timeout=300
    ) as http:
        # What one large answer leaves behind is kept by the allocators, and is there before.
        async with ask(http, 20_000) as answer:
            await answer.aread()
        before, looked = standing.processes(), time.monotonic()
        async with ask(http, rows) as answer:
            assert answer.status_code == 200, await answer.aread()
            async for piece in answer.aiter_raw():
                received, lines = received + len(piece), lines + piece.count(b"\n")
                if time.monotonic() - looked > 0.1:
                    memory, looked = standing.processes(), time.monotonic()
                    most |= Counter({name: memory[name] - before[name] for name in passing})
    assert received > rows * 200
    assert lines == rows
    assert max(most.values()) <= 64 * MEBIBYTE, most
    promise.held(
        f"{rows} rows, {received // MEBIBYTE} MiB: the gateway grew by {most['gateway'] // MEBIBYTE} MiB,"
        f" the desk by {most['context-lake'] // MEBIBYTE} MiB (at most 64)"
    )
