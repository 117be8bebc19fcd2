"""Drills: a part of a started platform is killed in each state of a runtime; the next query is right all the same."""

import asyncio
import contextlib
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from msgspec.structs import replace
from tests.benchmarks.standing import LAKE, Standing
from tests.starting import started

from weir.context_lake.vms.providers.process import HostUnreachable, ProcessHost
from weir_shared.auth.principal import Principal
from weir_shared.auth.scopes import LAKE_SCOPES
from weir_shared.auth.tickets import HEADER
from weir_shared.db.pool import Database, open_database
from weir_shared.settings import Settings

# A killed worker's lease (6 s), the sweep (2 s), the supervisor's pause and the start of a process.
RECOVERY_SECONDS = 40
SLOW = "select count(*) from numbers a, numbers b, numbers c, numbers d where a.id + b.id + c.id < d.id"


@dataclass
class Stage:
    """A platform of its own, and the strings that a drill pulls."""

    standing: Standing
    database: Database
    host: ProcessHost
    imports: Path

    def pid_of(self, kind: str) -> int:
        """The process of a part; of the host, not the runtimes that it forked."""
        if kind == "postgres":
            return int(
                (self.standing.platform.data_dir / "postgres" / "postmaster.pid").read_text().split()[0]
            )
        if kind == "valkey":
            port = urlsplit(self.standing.environment["WEIR_REDIS_URL"]).port
            return next(pid for pid, line in _commands() if "valkey" in line and str(port) in line)
        found = {int(entry.name) for name, entry in self.standing._running() if name == kind}
        return next(pid for pid in found if _parent_of(pid) not in found)

    async def runtimes_of(self, tenant_id: str) -> list[int]:
        return [r.pid for r in await self.host.list() if r.tenant == tenant_id and not r.endedFor]

    async def vm(self, tenant_id: str) -> Any:
        async with self.database.tenant(tenant_id) as connection:
            return await connection.fetchrow("select * from lake_vms where tenant_id = $1", tenant_id)

    async def pool_of(self, tenant_id: str) -> httpx.AsyncClient:
        principal = Principal(
            tenant_id=tenant_id, subject="drill", actor="user", scopes=frozenset(LAKE_SCOPES)
        )
        ticket = self.standing._tickets.issue(principal, "context-lake")
        return httpx.AsyncClient(
            base_url=self.standing.lake_url + LAKE, headers={HEADER: ticket}, timeout=RECOVERY_SECONDS
        )


@dataclass
class Tenant:
    stage: Stage
    id: str

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        async with await self.stage.pool_of(self.id) as client:
            return await client.request(method, path, json=body)

    async def count(self, name: str = "numbers") -> int:
        """The rows of a dataset, asked until somebody answers: what a client with a retry sees."""
        until = time.monotonic() + RECOVERY_SECONDS
        while True:
            said = ""
            try:
                answer = await self.ask("POST", "/sql", {"query": f"select count(*) as n from {name}"})
                if answer.status_code == 200:
                    return answer.json()["rows"][0]["n"]
                # A part that is away is told as such; nothing else is.
                said = answer.text
                assert answer.status_code in (503, 504), said
            except httpx.TransportError as fault:
                said = repr(fault)
            assert time.monotonic() < until, said
            await asyncio.sleep(0.1)

    async def add(self, name: str, rows: int) -> None:
        path = self.stage.imports / self.id / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("id\n" + "".join(f"{n}\n" for n in range(rows)))
        answer = await self.ask("POST", "/datasets", {"name": name, "from": f"file:{path}"})
        assert answer.status_code == 201, answer.text

    async def until(self, *states: str) -> None:
        await until(lambda: self._is(states))

    async def _is(self, states: tuple[str, ...]) -> bool:
        return (await self.stage.vm(self.id))["state"] in states


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    with started(tmp_path_factory.mktemp("drills"), WEIR_DEMO="0") as platform:
        standing = Standing(platform)
        database = await open_database(standing.environment["WEIR_DATABASE_URL"], size=2)
        settings = replace(
            Settings(data_dir=platform.data_dir),
            lake_host_socket=Path(standing.environment["WEIR_LAKE_HOST_SOCKET"]),
        )
        yield Stage(standing, database, ProcessHost(settings), platform.data_dir / "imports")
        await database.close()


@pytest.fixture
async def tenant(stage: Stage) -> Tenant:
    tenant = Tenant(stage, str(uuid.uuid4()))
    async with stage.database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) values ($1)", tenant.id)
    await tenant.add("numbers", 3000)
    return tenant


@asynccontextmanager
async def running(tenant: Tenant) -> AsyncIterator[None]:
    await tenant.count()
    yield


@asynccontextmanager
async def provisioning(tenant: Tenant) -> AsyncIterator[None]:
    """The host stands still, so that the boot waits for it."""
    host = tenant.stage.pid_of("lake-host")
    os.kill(host, signal.SIGSTOP)
    try:
        assert (await tenant.ask("POST", "/start")).status_code == 202
        await until(lambda: _is_leased(tenant))
        yield
    finally:
        _signal(host, signal.SIGCONT)


@asynccontextmanager
async def hibernating(tenant: Tenant) -> AsyncIterator[None]:
    """A slow query keeps the drain waiting."""
    await tenant.count()
    slow = asyncio.create_task(tenant.ask("POST", "/sql", {"query": SLOW, "timeoutSeconds": 25}))
    await asyncio.sleep(0.5)
    assert (await tenant.ask("POST", "/stop")).status_code == 202
    await until(lambda: _is_leased(tenant))
    yield
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)


@asynccontextmanager
async def configuring(tenant: Tenant) -> AsyncIterator[None]:
    """The runtime stands still while it is given a new version."""
    await tenant.count()
    [pid] = await tenant.stage.runtimes_of(tenant.id)
    os.kill(pid, signal.SIGSTOP)
    try:
        await tenant.add("more", 5)
        await until(lambda: _is_leased(tenant))
        yield
    finally:
        _signal(pid, signal.SIGCONT)


STATES: dict[str, Callable[[Tenant], Any]] = {
    "provisioning": provisioning,
    "running": running,
    "configuring": configuring,
    "hibernating": hibernating,
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("victim", ["worker", "context-lake", "lake-host", "runtime"])
async def test_a_part_killed_in_any_state_costs_no_right_answer(
    stage: Stage, tenant: Tenant, state: str, victim: str
) -> None:
    async with STATES[state](tenant):
        before = (await stage.vm(tenant.id))["epoch"]
        if victim != "runtime":
            os.kill(stage.pid_of(victim), signal.SIGKILL)
        elif state != "provisioning":
            for pid in await stage.runtimes_of(tenant.id):
                os.kill(pid, signal.SIGKILL)
    if victim == "runtime" and state == "provisioning":
        # Whatever comes up is killed at once, three times over.
        for _ in range(3):
            pids = await until(lambda: _quietly(stage.runtimes_of(tenant.id)))
            for pid in pids:
                _signal(pid, signal.SIGKILL)
            await tenant.count()
    started_at = time.monotonic()
    assert await tenant.count() == 3000
    if state == "configuring":
        assert await tenant.count("more") == 5
    print(f"{victim} killed while {state}: the next answer after {time.monotonic() - started_at:.1f} s")
    await tenant.until("running")
    assert len(await stage.runtimes_of(tenant.id)) == 1
    assert (await stage.vm(tenant.id))["epoch"] <= before + 4


async def test_a_runtime_that_stands_still_is_noticed_and_replaced(stage: Stage, tenant: Tenant) -> None:
    await tenant.count()
    [pid] = await stage.runtimes_of(tenant.id)
    os.kill(pid, signal.SIGSTOP)
    started_at = time.monotonic()
    assert await tenant.count() == 3000
    assert 10 < time.monotonic() - started_at < 20
    assert await stage.runtimes_of(tenant.id) != [pid]


async def test_a_forced_stop_cancels_a_boot_and_leaves_no_process(stage: Stage, tenant: Tenant) -> None:
    async with provisioning(tenant):
        assert (await tenant.ask("POST", "/stop")).status_code == 409
        assert (await tenant.ask("POST", "/stop?force=true")).status_code == 202
    await tenant.until("paused")
    await until(lambda: _has_none(stage, tenant))
    assert (await stage.vm(tenant.id))["state"] == "paused"
    assert await tenant.count() == 3000


@pytest.mark.parametrize("server", ["valkey", "postgres"])
async def test_a_server_that_is_killed_comes_back_and_a_storm_boots_once(
    stage: Stage, tenant: Tenant, server: str
) -> None:
    os.kill(stage.pid_of(server), signal.SIGKILL)
    answers = await asyncio.gather(*(tenant.count() for _ in range(20)))
    assert set(answers) == {3000}
    assert (await stage.vm(tenant.id))["epoch"] == 1
    assert len(await stage.runtimes_of(tenant.id)) == 1


async def until(check: Callable[[], Awaitable[Any]]) -> Any:
    end = time.monotonic() + RECOVERY_SECONDS
    while not (found := await check()):
        assert time.monotonic() < end, "it has not become true"
        await asyncio.sleep(0.05)
    return found


async def _is_leased(tenant: Tenant) -> bool:
    return (await tenant.stage.vm(tenant.id))["lease_until"] is not None


async def _has_none(stage: Stage, tenant: Tenant) -> bool:
    return not await stage.runtimes_of(tenant.id)


async def _quietly(asked: Awaitable[list[int]]) -> list[int]:
    try:
        return await asked
    except HostUnreachable:
        return []


def _commands() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it was the drill's victim
