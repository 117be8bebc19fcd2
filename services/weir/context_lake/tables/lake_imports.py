"""`lake_imports`: the files that a tenant has uploaded, each from the change on that made a dataset of it."""

from collections.abc import Iterable, Set

from msgspec import Struct

from weir_shared.db.pool import Connection


class Dropped(Struct, frozen=True, kw_only=True):
    """A file that no dataset reads any more."""

    tenant_id: str
    file: str


async def add_import(connection: Connection, tenant_id: str, file: str, *, size: int, author: str) -> None:
    await connection.execute(
        "insert into lake_imports (tenant_id, file, bytes, created_by) values ($1, $2, $3, $4)",
        tenant_id,
        file,
        size,
        author,
    )


async def drop_imports(connection: Connection, tenant_id: str, files: Iterable[str]) -> None:
    """Notes that no dataset reads these files any more."""
    await connection.execute(
        """
        update lake_imports set dropped_at = now()
        where tenant_id = $1 and file = any($2) and dropped_at is null
        """,
        tenant_id,
        list(files),
    )


async def living_imports(connection: Connection, tenant_id: str, files: Iterable[str]) -> set[str]:
    """Those of the files that are kept."""
    rows = await connection.fetch(
        "select file from lake_imports where tenant_id = $1 and file = any($2) and dropped_at is null",
        tenant_id,
        list(files),
    )
    return {row["file"] for row in rows}


async def total_bytes(connection: Connection, tenant_id: str) -> int:
    """What the tenant's imports take on the disk, those not counted that are about to go."""
    total: int | None = await connection.fetchval(
        """
        select coalesce(sum(bytes), 0)::bigint from lake_imports
        where tenant_id = $1 and dropped_at is null
        """,
        tenant_id,
    )
    return total or 0


async def find_dropped_any(connection: Connection, *, seconds: float) -> list[Dropped]:
    """Files of any tenant that were dropped so long ago."""
    rows = await connection.fetch(
        """
        select tenant_id::text, file from lake_imports
        where dropped_at <= now() - make_interval(secs => $1)
        order by dropped_at limit 1000
        """,
        seconds,
    )
    return [Dropped(tenant_id=row["tenant_id"], file=row["file"]) for row in rows]


async def forget_any(connection: Connection, dropped: Iterable[Dropped]) -> None:
    """Removes the rows of files that are gone."""
    await connection.executemany(
        "delete from lake_imports where tenant_id = $1 and file = $2 and dropped_at is not null",
        [(row.tenant_id, row.file) for row in dropped],
    )


async def known_any(connection: Connection, files: Set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the (tenant, file) pairs that have a row."""
    rows = await connection.fetch(
        """
        select tenant_id::text, file from lake_imports
        where (tenant_id::text, file) in (select * from unnest($1::text[], $2::text[]))
        """,
        [tenant_id for tenant_id, _ in files],
        [file for _, file in files],
    )
    return {(row["tenant_id"], row["file"]) for row in rows}
