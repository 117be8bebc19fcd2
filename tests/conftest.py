"""The servers that tests use, never ones that happen to run; and one whole platform for those who need it."""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest
from tests.promises import promise, pytest_runtest_makereport, pytest_terminal_summary
from tests.starting import StartedPlatform, started

from weir.onebox.directories import private_run_directory
from weir.onebox.postgres import EmbeddedPostgres
from weir.onebox.supervisor import running
from weir.onebox.valkey import EmbeddedValkey
from weir_shared.db.migrate import migrate
from weir_shared.db.pool import Database, open_database
from weir_shared.queue.doorbell import Doorbell, open_doorbell

__all__ = ["promise", "pytest_runtest_makereport", "pytest_terminal_summary"]


@pytest.fixture(scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[str, str]]:
    """Addresses of the embedded Postgres and Valkey of this run, as `weir up` starts them."""
    data_dir = tmp_path_factory.mktemp("servers")
    run_dir = private_run_directory(data_dir)
    postgres, valkey = EmbeddedPostgres(data_dir, run_dir), EmbeddedValkey(data_dir, run_dir)
    async with running(postgres, valkey):
        yield postgres.dsn, valkey.url


@pytest.fixture(scope="session")
def postgres_dsn(servers: tuple[str, str]) -> str:
    """A Postgres whose databases the tests make and drop."""
    return servers[0]


@pytest.fixture(scope="session")
def redis_url(servers: tuple[str, str]) -> str:
    return servers[1]


@asynccontextmanager
async def migrated_database(postgres_dsn: str) -> AsyncIterator[str]:
    """The address of a migrated database that goes afterwards."""
    name = f"weir_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(postgres_dsn)
    await admin.execute(f'create database "{name}"')
    base, _, _ = postgres_dsn.rpartition("/")
    await migrate(f"{base}/{name}")
    yield f"{base}/{name}"
    await admin.execute(f'drop database "{name}" with (force)')
    await admin.close()


@pytest.fixture(scope="session")
async def dsn(postgres_dsn: str) -> AsyncIterator[str]:
    """A migrated database of this run."""
    async with migrated_database(postgres_dsn) as dsn:
        yield dsn


@pytest.fixture(scope="session")
async def database(dsn: str) -> AsyncIterator[Database]:
    opened = await open_database(dsn)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
async def doorbell(redis_url: str) -> AsyncIterator[Doorbell]:
    opened = await open_doorbell(redis_url)
    yield opened
    await opened.close()


@pytest.fixture
async def tenant_id(database: Database) -> str:
    """A fresh tenant."""
    tenant_id = str(uuid.uuid4())
    async with database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) values ($1)", tenant_id)
    return tenant_id


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedPlatform]:
    """One platform with its demo, started once as its user would."""
    with started(tmp_path_factory.mktemp("weir")) as running:
        yield running


@pytest.fixture
def admin(platform: StartedPlatform) -> Iterator[httpx.Client]:
    """An admin of the platform's default tenant."""
    with platform.client() as client:
        yield client
