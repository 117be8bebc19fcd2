"""Forward-only migrations: numbered SQL files, applied once, by one migrator at a time.

`NNNN_pre_what.sql` runs before the new code, `NNNN_post_what.sql` after the old code is gone; what runs `pre`
must let the old code live.
"""

import hashlib
import re
from importlib import resources

import asyncpg
from msgspec import Struct

# Any constant will do, as long as every migrator uses the same one.
LOCK_KEY = 0x57454952
LOCK_TIMEOUT = "60s"
_NAME = re.compile(r"(\d{4})_(pre|post)_(\w+)\.sql")


class MigrationError(Exception):
    """The database cannot be brought to this version; the message says why."""


class Migration(Struct, frozen=True, kw_only=True):
    number: int
    stage: str
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def list_migrations() -> list[Migration]:
    """Every migration of this version, in order."""
    found: list[Migration] = []
    for file in resources.files("weir_shared.db").joinpath("migrations").iterdir():
        match = _NAME.fullmatch(file.name)
        if match:
            number, stage, name = match.groups()
            found.append(Migration(number=int(number), stage=stage, name=name, sql=file.read_text("utf-8")))
    return sorted(found, key=lambda migration: migration.number)


async def migrate(dsn: str) -> list[str]:
    """Applies what is missing and returns its names. Raises MigrationError when history was rewritten."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        await connection.execute(f"set lock_timeout = '{LOCK_TIMEOUT}'")
        await connection.execute("select pg_advisory_lock($1)", LOCK_KEY)
        return await _apply_missing(connection)
    finally:
        await connection.close()


async def is_current(dsn: str) -> bool:
    """Whether the database holds every migration of this version."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        if not await connection.fetchval("select to_regclass('public.weir_migrations')"):
            return False
        applied = {row["number"] for row in await connection.fetch("select number from weir_migrations")}
        return all(migration.number in applied for migration in list_migrations())
    finally:
        await connection.close()


async def ledger_birth(dsn: str) -> str:
    """When a migrated database got its first migration, to the microsecond: it tells one ledger from another."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        return (await connection.fetchval("select min(applied_at) from weir_migrations")).isoformat()
    finally:
        await connection.close()


async def _apply_missing(connection: asyncpg.Connection) -> list[str]:  # type: ignore[type-arg]
    await connection.execute(
        """
        create table if not exists weir_migrations (
            number integer primary key,
            name text not null,
            checksum text not null,
            applied_at timestamptz not null default now()
        )
        """
    )
    rows = await connection.fetch("select number, checksum from weir_migrations")
    applied = {row["number"]: row["checksum"] for row in rows}
    done: list[str] = []
    for migration in list_migrations():
        if migration.number in applied:
            if applied[migration.number] != migration.checksum:
                raise MigrationError(f"migration {migration.number:04} was changed after it had been applied")
            continue
        await _apply(connection, migration)
        done.append(f"{migration.number:04}_{migration.stage}_{migration.name}")
    return done


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:  # type: ignore[type-arg]
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "insert into weir_migrations (number, name, checksum) values ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.checksum,
            )
    except asyncpg.PostgresError as fault:
        raise MigrationError(f"migration {migration.number:04} ({migration.name}) failed: {fault}") from fault
