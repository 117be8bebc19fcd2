"""The ledger's promises: migrations once, tenants apart, transactions whole, values as they were."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest
from tests.cuts import wire_to
from tests.promises import Promise, size

from weir_shared.db import migrate as migrations
from weir_shared.db.migrate import Migration, MigrationError, is_current, list_migrations, migrate
from weir_shared.db.pool import Database, DatabaseUnavailable, open_database

INSERT = "insert into api_tokens (tenant_id, id, name, token_hash, prefix, scopes, created_by) values ($1, $2, $3, $4, 'x', '{}', 'x')"


COLUMNS = """
select table_name, column_name, udt_name as type, is_nullable = 'NO' and column_default is null
    and is_identity = 'NO' and is_generated = 'NEVER' as is_needed
from information_schema.columns where table_schema = 'public'
"""


@pytest.fixture
async def empty_dsn(postgres_dsn: str) -> AsyncIterator[str]:
    async with _empty(postgres_dsn) as dsn:
        yield dsn


@asynccontextmanager
async def _empty(postgres_dsn: str) -> AsyncIterator[str]:
    """A database with nothing in it."""
    name = f"weir_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(postgres_dsn)
    await admin.execute(f'create database "{name}"')
    base, _, _ = postgres_dsn.rpartition("/")
    yield f"{base}/{name}"
    await admin.execute(f'drop database "{name}" with (force)')
    await admin.close()


async def new_tenant(database: Database) -> str:
    tenant = str(uuid.uuid4())
    async with database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) values ($1)", tenant)
    return tenant


async def add_row(database: Database, acting: str, owner: str, name: str = "a") -> None:
    async with database.tenant(acting) as connection:
        await connection.execute(INSERT, owner, str(uuid.uuid4()), name, uuid.uuid4().bytes)


@pytest.mark.promise("P25")
async def test_five_migrators_at_once_apply_each_migration_once(postgres_dsn: str, promise: Promise) -> None:
    migrators, rounds, whole = 5, size(5, 50), len(list_migrations())
    for _ in range(rounds):
        async with _empty(postgres_dsn) as dsn:
            applied = await asyncio.gather(*(migrate(dsn) for _ in range(migrators)))
            assert sorted(len(names) for names in applied) == [0] * (migrators - 1) + [whole]
            assert await is_current(dsn)
    promise.held(f"{rounds} rounds of {migrators} migrators at once: each of {whole} migrations applied once")


@pytest.mark.promise("P25")
async def test_what_runs_before_the_new_code_lets_the_old_code_live(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch, promise: Promise
) -> None:
    """After every migration: each column that was there is there, of its type, and no insert misses a new one."""
    whole, checked = list_migrations(), 0
    known: dict[tuple[str, str], tuple[str, bool]] = {}
    connection = await asyncpg.connect(empty_dsn)
    for number, migration in enumerate(whole, 1):
        monkeypatch.setattr(migrations, "list_migrations", lambda number=number: whole[:number])
        await migrate(empty_dsn)
        rows = await connection.fetch(COLUMNS)
        now = {(row["table_name"], row["column_name"]): (row["type"], row["is_needed"]) for row in rows}
        if migration.stage == "pre":
            tables = {table for table, _ in known}
            for column, (type_, is_needed) in known.items():
                assert now.get(column, ("gone", False))[0] == type_, (migration.name, column)
                assert is_needed or not now[column][1], (migration.name, column)
                checked += 1
            for column in now.keys() - known.keys():
                assert column[0] not in tables or not now[column][1], (migration.name, column)
        known = now
    await connection.close()
    promise.held(f"{len(whole)} migrations one by one: {checked} columns of an older schema live on, 0 lost")


async def test_a_database_without_the_schema_is_not_current(empty_dsn: str) -> None:
    assert not await is_current(empty_dsn)


async def test_a_migration_that_fails_leaves_nothing_behind(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Migration(number=9999, stage="pre", name="bad", sql="create table half (id int); select nonsense")
    whole = list_migrations()
    monkeypatch.setattr(migrations, "list_migrations", lambda: [*whole, bad])
    with pytest.raises(MigrationError, match="9999"):
        await migrate(empty_dsn)
    connection = await asyncpg.connect(empty_dsn)
    assert await connection.fetchval("select to_regclass('half')") is None
    assert await connection.fetchval("select max(number) from weir_migrations") == whole[-1].number
    await connection.close()


async def test_history_is_never_rewritten(empty_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate(empty_dsn)
    whole = list_migrations()
    changed = Migration(number=whole[0].number, stage="pre", name=whole[0].name, sql="select 1")
    monkeypatch.setattr(migrations, "list_migrations", lambda: [changed, *whole[1:]])
    with pytest.raises(MigrationError, match="changed after"):
        await migrate(empty_dsn)


async def test_a_tenants_unit_runs_under_row_level_security(database: Database) -> None:
    """A superuser bypasses row-level security: tests that ran as one would prove nothing."""
    tenant = await new_tenant(database)
    async with database.tenant(tenant) as connection:
        row = await connection.fetchrow(
            "select current_user, rolsuper, rolbypassrls from pg_roles where rolname = current_user"
        )
    assert dict(row) == {"current_user": "weir_app", "rolsuper": False, "rolbypassrls": False}


async def test_a_query_that_forgot_its_tenant_still_sees_one_tenant_only(database: Database) -> None:
    mine, theirs = await new_tenant(database), await new_tenant(database)
    await add_row(database, mine, mine)
    await add_row(database, theirs, theirs)
    async with database.tenant(mine) as connection:
        assert await connection.fetchval("select array_agg(distinct tenant_id) from api_tokens") == [mine]
        assert await connection.execute("update api_tokens set name = 'stolen'") == "UPDATE 1"


async def test_a_row_of_another_tenant_cannot_be_written(database: Database) -> None:
    mine, theirs = await new_tenant(database), await new_tenant(database)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await add_row(database, mine, theirs)


async def test_every_table_with_a_tenant_has_the_second_wall(database: Database) -> None:
    async with database.any_tenant() as connection:
        bare = await connection.fetch(
            """
            select c.relname from pg_class c
            join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
            where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace
              and (not c.relrowsecurity or not exists (select from pg_policy p where p.polrelid = c.oid))
            """
        )
    assert [row["relname"] for row in bare] == []


@pytest.mark.parametrize(
    "tenant", ["", "x", "'; drop table tenants; --", "{00000000-0000-0000-0000-000000000001}"]
)
async def test_only_a_canonical_uuid_opens_a_unit(database: Database, tenant: str) -> None:
    with pytest.raises(ValueError, match="canonical"):
        async with database.tenant(tenant):
            pass


async def test_a_unit_that_raises_leaves_nothing_and_its_connection_is_clean(database: Database) -> None:
    tenant = await new_tenant(database)
    for _ in range(12):
        with pytest.raises(RuntimeError):
            async with database.tenant(tenant) as connection:
                await connection.execute(INSERT, tenant, str(uuid.uuid4()), "lost", uuid.uuid4().bytes)
                raise RuntimeError
    async with database.any_tenant() as connection:
        assert await connection.fetchval("select current_user") != "weir_app"
        assert await connection.fetchval("select count(*) from api_tokens where tenant_id = $1", tenant) == 0


async def test_a_cancelled_unit_gives_its_connection_back(dsn: str) -> None:
    small = await open_database(dsn, size=1)

    async def hang() -> None:
        async with small.any_tenant() as connection:
            await connection.execute("select pg_sleep(30)")

    task = asyncio.create_task(hang())
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(small.ping(), 3)
    await small.close()


async def test_a_connection_that_was_ended_and_does_not_know_it_is_told_as_503(dsn: str) -> None:
    """The server's last word has come and the end of the stream has not."""
    async with wire_to(dsn) as (wire, wired):
        wire.lingering = 1.0
        database = await open_database(wired, size=1)
        admin = await asyncpg.connect(dsn)
        with pytest.raises(DatabaseUnavailable):
            async with database.any_tenant() as connection:
                pid = await connection.fetchval("select pg_backend_pid()")
                await admin.execute("select pg_terminate_backend($1)", pid)
                await asyncio.sleep(0.2)
                await connection.fetchval("select pg_backend_pid()")
        # The next unit has a connection that works.
        await database.ping()
        await admin.close()
        await database.close()


async def test_a_database_that_goes_away_is_told_as_503(dsn: str) -> None:
    """A line to Postgres that is cut while the pool is open, and refused afterwards."""
    address = urlsplit(dsn)
    lines: list[asyncio.StreamWriter] = []

    async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while content := await source.read(65536):
            sink.write(content)
        sink.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(address.hostname, address.port)
        lines.extend((writer, back))
        await asyncio.gather(pipe(reader, back), pipe(there, writer), return_exceptions=True)

    line = await asyncio.start_server(connect, "127.0.0.1", 0)
    port = line.sockets[0].getsockname()[1]
    database = await open_database(dsn.replace(f":{address.port}/", f":{port}/"), size=1)
    await database.ping()
    line.close()
    for writer in lines:
        writer.transport.abort()
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable) as told:
            await asyncio.wait_for(database.ping(), 10)
    assert told.value.status == 503
    await database.close()


@pytest.mark.parametrize(
    "value", [{"a": "x\0y"}, {"a": "\\u0000"}, {"a": "\\\\u0000\0"}, ["ünï", 2**53, None]]
)
async def test_json_is_kept_as_it_was_but_for_the_nul_that_postgres_refuses(
    database: Database, value: object
) -> None:
    async with database.any_tenant() as connection:
        kept = await connection.fetchval("select $1::jsonb", value)
    assert kept == eval(repr(value).replace("\\x00", ""))


async def test_a_database_owner_who_is_no_superuser_is_enough(postgres_dsn: str) -> None:
    """What an operator gives us on a managed Postgres: a database of our own and the right to make a role."""
    name = f"weir_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(postgres_dsn)
    await admin.execute(f"create role {name} login createrole password 'x'")
    await admin.execute(f"create database {name} owner {name}")
    # Made by others before, on the same server: membership has to be given by whoever may.
    await admin.execute(f"grant weir_app to {name}")
    place = postgres_dsn.rpartition("@")[2].rpartition("/")[0]
    dsn = f"postgresql://{name}:x@{place}/{name}"
    try:
        await migrate(dsn)
        database = await open_database(dsn)
        tenant = await new_tenant(database)
        async with database.tenant(tenant) as connection:
            assert await connection.fetchval("select current_user") == "weir_app"
            assert await connection.fetchval("select count(*) from api_tokens") == 0
        await database.close()
    finally:
        await admin.execute(f"drop database {name} with (force)")
        await admin.execute(f"drop owned by {name}")
        await admin.execute(f"drop role {name}")
        await admin.close()
