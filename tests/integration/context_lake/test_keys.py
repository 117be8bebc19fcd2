"""Key-encryption keys are replaced while every secret still opens."""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from tests.promises import Promise, size

from weir_shared.db.migrate import migrate
from weir_shared.db.pool import Database, open_database
from weir_shared.sealing import (
    KeyEncryptionKeys,
    SealError,
    Vault,
    drop_keys,
    load_keys,
    load_or_create_keys,
    rotate_keys,
)

DATA_KEYS = 1000


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    """A database of this test's own: a rotation is about every data key that there is."""
    name = f"weir_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(postgres_dsn)
    await admin.execute(f'create database "{name}"')
    dsn = f"{postgres_dsn.rpartition('/')[0]}/{name}"
    await migrate(dsn)
    opened = await open_database(dsn)
    yield opened
    await opened.close()
    await admin.execute(f'drop database "{name}" with (force)')
    await admin.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "kek"


@pytest.fixture
def keys(directory: Path) -> KeyEncryptionKeys:
    return load_or_create_keys(directory)


async def seal_many(database: Database, keys: KeyEncryptionKeys, count: int) -> dict[str, bytes]:
    tenants = [str(uuid.uuid4()) for _ in range(count)]
    async with database.any_tenant() as connection:
        await connection.executemany(
            "insert into tenants (id) values ($1)", [(tenant,) for tenant in tenants]
        )
    vault = Vault(database, keys)
    sealed = {tenant: await vault.seal(tenant, "a", f"secret of {tenant}") for tenant in tenants}
    return sealed


async def assert_all_open(database: Database, keys: KeyEncryptionKeys, sealed: dict[str, bytes]) -> None:
    vault = Vault(database, keys)
    for tenant, content in sealed.items():
        assert await vault.open(tenant, "a", content) == f"secret of {tenant}"


async def test_a_thousand_data_keys_are_wrapped_anew_and_every_secret_opens(
    database: Database, keys: KeyEncryptionKeys, directory: Path
) -> None:
    sealed = await seal_many(database, keys, DATA_KEYS)
    done = await rotate_keys(database, directory)
    assert (done.newest, done.rewrapped) == ("0002", DATA_KEYS)
    assert (directory / "0002.kek").stat().st_mode & 0o777 == 0o600
    assert await drop_keys(database, directory) == (["0001"], [])
    assert sorted(path.name for path in directory.iterdir()) == ["0001.kek.dropped", "0002.kek"]
    await assert_all_open(database, load_keys(directory), sealed)


@pytest.mark.promise("P13")
async def test_secrets_open_while_their_keys_are_replaced(
    database: Database, keys: KeyEncryptionKeys, directory: Path, promise: Promise
) -> None:
    """Processes that started before any of the rotations, and one that starts for each look."""
    sealed = await seal_many(database, keys, size(100, 1000))
    opened, over = 0, asyncio.Event()

    async def read(vault: Vault | None) -> None:
        nonlocal opened
        while not over.is_set():
            for tenant, content in sealed.items():
                reader = vault or Vault(database, load_keys(directory))
                assert await reader.open(tenant, "a", content) == f"secret of {tenant}"
                opened += 1

    readers = [asyncio.create_task(read(vault)) for vault in (Vault(database, keys), None, None)]
    rotations = size(5, 50)
    for _ in range(rotations):
        done = await rotate_keys(database, directory)
        assert done.rewrapped == len(sealed)
    over.set()
    await asyncio.gather(*readers)
    assert load_keys(directory).newest == f"{rotations + 1:04d}"
    assert opened > len(sealed)
    promise.held(
        f"{rotations} rotations of {len(sealed)} data keys, {opened} secrets opened meanwhile, 0 failed"
    )


async def test_a_process_that_knows_only_the_old_key_reads_the_new_one(
    database: Database, keys: KeyEncryptionKeys, directory: Path
) -> None:
    sealed = await seal_many(database, keys, 3)
    await rotate_keys(database, directory)
    await assert_all_open(database, keys, sealed)


async def test_a_key_that_is_still_referenced_is_not_dropped(
    database: Database, keys: KeyEncryptionKeys, directory: Path
) -> None:
    await rotate_keys(database, directory)
    sealed = await seal_many(database, keys, 2)  # by a process that has not seen the new key
    assert await drop_keys(database, directory) == ([], ["0001"])
    assert (await rotate_keys(database, directory)).rewrapped == 2
    assert await drop_keys(database, directory) == (["0001", "0002"], [])
    await assert_all_open(database, load_keys(directory), sealed)


async def test_the_newest_key_is_never_dropped(
    database: Database, keys: KeyEncryptionKeys, directory: Path
) -> None:
    assert await drop_keys(database, directory) == ([], [])
    assert load_keys(directory).newest == "0001"


async def test_a_rotation_that_lacks_a_key_changes_nothing_it_cannot_open(
    database: Database, keys: KeyEncryptionKeys, directory: Path
) -> None:
    sealed = await seal_many(database, keys, 2)
    hidden = (directory / "0001.kek").rename(directory / "elsewhere")
    (directory / "0002.kek").write_text("ab" * 32)
    with pytest.raises(SealError, match="0001"):
        await rotate_keys(database, directory)
    hidden.rename(directory / "0001.kek")
    await assert_all_open(database, load_keys(directory), sealed)


async def test_two_rotations_at_once_lose_nothing(
    database: Database, keys: KeyEncryptionKeys, directory: Path
) -> None:
    sealed = await seal_many(database, keys, 20)
    await asyncio.gather(rotate_keys(database, directory), rotate_keys(database, directory))
    await assert_all_open(database, load_keys(directory), sealed)


@pytest.mark.parametrize(
    ("newest", "following"), [("0001", "0002"), ("9999", "9999-2"), ("2026-01", "2026-01-2")]
)
async def test_a_new_key_sorts_after_the_newest(
    database: Database, directory: Path, newest: str, following: str
) -> None:
    directory.mkdir()
    (directory / f"{newest}.kek").write_text("ab" * 32)
    assert (await rotate_keys(database, directory)).newest == following


async def test_keys_are_rotated_and_dropped_by_commands(
    postgres_dsn: str, database: Database, keys: KeyEncryptionKeys, directory: Path
) -> None:
    sealed = await seal_many(database, keys, 3)
    async with database.any_tenant() as connection:
        name = await connection.fetchval("select current_database()")
    for command in ("rotate-keys", "drop-keys"):
        environment = os.environ | {
            "WEIR_DATABASE_URL": f"{postgres_dsn.rpartition('/')[0]}/{name}",
            "WEIR_JWT_KEYS_DIR": str(directory.parent),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "weir", command, env=environment, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        assert b"secret" not in out
    assert sorted(path.name for path in directory.iterdir()) == ["0001.kek.dropped", "0002.kek"]
    await assert_all_open(database, load_keys(directory), sealed)
