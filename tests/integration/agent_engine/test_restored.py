"""A database that was dumped and restored on a fresh server: the platform goes on as it stood."""

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from tests.fakes.model_server import say
from tests.integration.agent_engine.test_portable import exported, without_time
from tests.integration.agent_engine.working import reached, worker_here
from tests.promises import Promise, size
from tests.serving import served

from weir.context_lake.app import create_app as create_lake
from weir.context_lake.secrets import open_all
from weir.onebox.binaries import SERVER_ENVIRONMENT, find_postgres
from weir.onebox.directories import private_run_directory
from weir.onebox.postgres import EmbeddedPostgres
from weir.onebox.supervisor import running
from weir_shared.auth.keys import TICKET_KEY, load_or_create_key_pair
from weir_shared.auth.principal import Principal
from weir_shared.auth.tickets import HEADER, TicketOffice
from weir_shared.db.migrate import migrate
from weir_shared.db.pool import open_database
from weir_shared.sealing import SealError, Vault, load_or_create_keys
from weir_shared.settings import Settings

PAGE = Path(__file__).parents[3] / "docs/operations/backup.md"
# What the page tells the operator to do first.
ROLE = "create role weir_app nologin"


@pytest.fixture
async def fresh_dsn(tmp_path: Path) -> AsyncIterator[str]:
    """A server that has just been made, with nothing in its database."""
    server = EmbeddedPostgres(tmp_path, private_run_directory(tmp_path))
    async with running(server):
        yield server.dsn


@pytest.fixture
async def own_dsn(postgres_dsn: str) -> AsyncIterator[str]:
    """A database of this test's own, so that all that is in it is known."""
    name = f"weir_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(postgres_dsn)
    await admin.execute(f'create database "{name}"')
    dsn = f"{postgres_dsn.rpartition('/')[0]}/{name}"
    await migrate(dsn)
    yield dsn
    await admin.execute(f'drop database "{name}" with (force)')
    await admin.close()


async def dump_and_restore(source: str, target: str, dump: Path) -> None:
    """As an operator would, with the programs that come with the server; a dump holds no roles."""
    programs = find_postgres(None)
    assert ROLE in PAGE.read_text()
    connection = await asyncpg.connect(target)
    await connection.execute(ROLE)
    await connection.close()
    for program, arguments in (
        ("pg_dump", ("--format=custom", f"--file={dump}", source)),
        ("pg_restore", ("--exit-on-error", f"--dbname={target}", str(dump))),
    ):
        process = await asyncio.create_subprocess_exec(
            programs / program,
            *arguments,
            env=SERVER_ENVIRONMENT,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        assert process.returncode == 0, f"{program}: {said.decode()}"


async def contents(dsn: str) -> dict[str, tuple[int, str]]:
    """Of each table how many rows it has and what they come to."""
    connection = await asyncpg.connect(dsn)
    names = await connection.fetch(
        "select table_name from information_schema.tables where table_schema = 'public' order by 1"
    )
    found: dict[str, tuple[int, str]] = {}
    for (name,) in names:
        row = await connection.fetchrow(
            f"select count(*), coalesce(md5(string_agg(t::text, ',' order by t::text)), '') from \"{name}\" t"
        )
        assert row is not None
        found[name] = (row[0], row[1])
    await connection.close()
    return found


SECRET = "sealed-before-the-dump"


async def add_dataset(keys: Path, dsn: str, redis_url: str, tenant_id: str) -> None:
    """A dataset with credentials, at a desk of the lake's; it is not read, so there is no bucket."""
    settings = Settings(data_dir=keys, database_url=dsn, redis_url=redis_url, allow_private_addresses=True)
    params = {"s3_auth": "key", "s3_key": "AKIA", "s3_secret": SECRET}
    dataset = {"name": "sales", "from": "s3://bucket/sales.parquet", "params": params}
    scopes = frozenset({"lake:read", "lake:write"})
    principal = Principal(tenant_id=tenant_id, subject="tester", actor="user", scopes=scopes)
    office = TicketOffice(load_or_create_key_pair(settings.keys_dir, TICKET_KEY))
    headers = {HEADER: office.issue(principal, "context-lake")}
    async with served(create_lake(settings)) as url, httpx.AsyncClient(headers=headers, timeout=30) as http:
        added = await http.post(f"{url}/v1/context-lake/datasets", json=dataset)
        assert added.status_code == 201, added.text


async def opened_credentials(keys: Path, dsn: str, tenant_id: str) -> list[str]:
    """As a runtime would be given them."""
    settings = Settings(data_dir=keys, database_url=dsn)
    database = await open_database(dsn, size=1)
    vault = Vault(database, load_or_create_keys(settings.keys_dir / "kek"))
    async with database.tenant(tenant_id) as connection:
        rows = await connection.fetch(
            "select reference, sealed from lake_secrets where tenant_id = $1", tenant_id
        )
    opened = await open_all(vault, tenant_id, {row["reference"]: row["sealed"] for row in rows})
    await database.close()
    return list(opened.values())


@pytest.mark.promise("P26")
@pytest.mark.timeout(300)
async def test_a_restored_database_goes_on_as_it_stood(
    own_dsn: str,
    fresh_dsn: str,
    tmp_path: Path,
    start_world: Callable[..., Any],
    redis_url: str,
    promise: Promise,
) -> None:
    keys, tenant_id, many = tmp_path / "keys", str(uuid.uuid4()), size(20, 500)
    connection = await asyncpg.connect(own_dsn)
    await connection.execute("insert into tenants (id) values ($1)", tenant_id)
    await connection.close()
    async with start_world(keys, database_url=own_dsn) as world:
        admin = world.caller(tenant_id)
        assistant = await world.assistant(admin, say("Done."))
        tasks = [
            await admin.ask(201, "POST", "/tasks", {"agent": assistant.agent, "title": f"task {n}"})
            for n in range(many)
        ]
        text = await exported(admin)
        await admin.http.aclose()
    await add_dataset(keys, own_dsn, redis_url, tenant_id)
    before = await contents(own_dsn)
    await dump_and_restore(own_dsn, fresh_dsn, tmp_path / "weir.dump")
    assert await contents(fresh_dsn) == before
    assert await migrate(fresh_dsn) == []
    # As the page of backups says: the files of `keys` come back before anything starts, and without them nothing opens.
    restored = tmp_path / "restored"
    with pytest.raises(SealError):
        await opened_credentials(restored, fresh_dsn, tenant_id)
    shutil.rmtree(restored)
    shutil.copytree(keys / "keys", restored / "keys")
    assert SECRET in await opened_credentials(restored, fresh_dsn, tenant_id)
    async with start_world(restored, database_url=fresh_dsn) as world:
        admin = world.caller(tenant_id)
        assert without_time(await exported(admin)) == without_time(text)
        async with worker_here(fresh_dsn, redis_url, keys):
            done = [await reached(admin, task, "completed") for task in tasks]
        assert {task["result"] for task in done} == {"Done."}
        await admin.http.aclose()
    # The model's key was sealed before the dump, and it is what the model was sent.
    assert {headers["authorization"] for headers in assistant.brain.headers} == {"Bearer sk-test"}
    rows = sum(count for count, _ in before.values())
    promise.held(
        f"{len(before)} tables, {rows} rows dumped and restored on a fresh server: the export of {len(text)} bytes"
        f" equal, {len(assistant.brain.headers)} calls with the sealed key, a dataset's credentials opened, {len(done)} of {many} tasks resumed"
    )
