"""A lake for real: the host that forks runtimes, a worker, the desk served, and callers with tickets."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer
from msgspec.structs import replace
from tests.serving import free_port, served

from weir.context_lake.app import create_app
from weir.worker.app import open_context, work
from weir_shared.auth.keys import TICKET_KEY, load_or_create_key_pair
from weir_shared.auth.principal import Principal
from weir_shared.auth.scopes import LAKE_SCOPES
from weir_shared.auth.tickets import HEADER, TicketOffice
from weir_shared.db.pool import Database
from weir_shared.settings import Settings
from weir_shared.web.server import address_of

PREFIX = "/v1/context-lake"
AWS_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Host:
    """The lake host as a process of its own."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        command = [sys.executable, "-m", "weir.lake_runtime.zygote", "--socket", str(self.socket)]
        self._process = subprocess.Popen(command, env=environment)
        until = time.monotonic() + 20
        while not self.socket.exists():
            assert self._process.poll() is None and time.monotonic() < until, "the host has not started"
            time.sleep(0.02)

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(15) == 0


@dataclass
class Caller:
    """One tenant's way to the desk."""

    http: httpx.AsyncClient
    tenant_id: str
    imports: Path
    database: Database

    async def rows(self, query: str, **more: Any) -> list[dict[str, Any]]:
        answer = await self.sql(query, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()["rows"]

    async def sql(self, query: str, **more: Any) -> httpx.Response:
        return await self.http.post("/sql", json={"query": query, **more})

    async def add(self, name: str, source: str, **more: Any) -> dict[str, Any]:
        answer = await self.http.post("/datasets", json={"name": name, "from": source, **more})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def status(self) -> dict[str, Any]:
        return (await self.http.get("/status")).json()

    async def vm(self) -> Any:
        async with self.database.tenant(self.tenant_id) as connection:
            return await connection.fetchrow("select * from lake_vms where tenant_id = $1", self.tenant_id)

    async def until(self, state: str, *, within: float = 10) -> None:
        await eventually(lambda: self._is(state), within=within)

    async def stop(self) -> None:
        assert (await self.http.post("/stop")).status_code in (200, 202)
        await self.until("paused")

    async def _is(self, state: str) -> bool:
        return (await self.status())["vmStatus"] == state

    def parquet(self, name: str, rows: list[dict[str, Any]]) -> str:
        """A file in the import directory, as a `from`."""
        path = self.imports / self.tenant_id / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)
        return f"file:{path}"


@dataclass
class Lake:
    """The served desk and what stands behind it."""

    url: str
    settings: Settings
    host: Host
    database: Database
    office: TicketOffice

    @asynccontextmanager
    async def caller(
        self,
        tenant_id: str,
        scopes: tuple[str, ...] = LAKE_SCOPES,
        url: str | None = None,
        subject: str = "tester",
    ) -> AsyncIterator[Caller]:
        principal = Principal(tenant_id=tenant_id, subject=subject, actor="user", scopes=frozenset(scopes))
        headers = {HEADER: self.office.issue(principal, "context-lake")}
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(
            base_url=(url or self.url) + PREFIX, headers=headers, timeout=60, limits=limits
        ) as http:
            yield Caller(http, tenant_id, self.settings.imports, self.database)


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    """A worker in this loop."""
    async with open_context(settings) as context:
        task = asyncio.create_task(work(context))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """An S3 of the tests' own."""
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def aws_credentials() -> Iterator[None]:
    """The platform's own, as its operator would set them; moto takes any."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in AWS_ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
async def lake(
    dsn: str, redis_url: str, database: Database, moto_url: str, aws_credentials: None
) -> AsyncIterator[Lake]:
    # Short, because a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="weir-") as home, pytest.MonkeyPatch.context() as environment:
        # The platform's own, with which it assumes its tenants' roles.
        environment.setenv("AWS_ACCESS_KEY_ID", "AKIAPLATFORM00000001")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "platform-secret-never-seen")
        data_dir = Path(home)
        (data_dir / "run").mkdir()
        (data_dir / "imports").mkdir()
        settings = Settings(
            data_dir=data_dir,
            database_url=dsn,
            redis_url=redis_url,
            allow_private_addresses=True,
            aws_endpoint_url=moto_url,
            lake_url=f"http://127.0.0.1:{free_port()}",
            engine_url=f"http://127.0.0.1:{free_port()}",
            s3_role_arn="arn:aws:iam::123456789012:role/weir/{tenant}",
        )
        host = Host(settings.host_socket)
        host.start()
        try:
            async with (
                working(settings),
                served(create_app(settings), address_of(settings.lake_url)[1]) as url,
            ):
                office = TicketOffice(load_or_create_key_pair(settings.keys_dir, TICKET_KEY))
                yield Lake(url, settings, host, database, office)
        finally:
            host.stop()


@pytest.fixture
async def caller(lake: Lake, tenant_id: str) -> AsyncIterator[Caller]:
    async with lake.caller(tenant_id) as caller:
        yield caller


async def new_tenant(lake: Lake) -> str:
    tenant_id = str(uuid.uuid4())
    async with lake.database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) values ($1)", tenant_id)
    return tenant_id


@pytest.fixture
async def another_tenant_id(lake: Lake) -> str:
    return await new_tenant(lake)


@pytest.fixture
async def other(lake: Lake) -> AsyncIterator[Caller]:
    """A caller of another tenant."""
    async with lake.caller(await new_tenant(lake)) as caller:
        yield caller


@pytest.fixture
def settings_of(lake: Lake) -> Callable[..., Settings]:
    """The served desk's settings with some of them changed."""
    return lambda **changes: replace(lake.settings, **changes)


async def eventually(check: Callable[[], Awaitable[Any]], *, within: float = 10) -> Any:
    until = time.monotonic() + within
    while not (found := await check()):
        assert time.monotonic() < until, "it has not become true"
        await asyncio.sleep(0.05)
    return found
