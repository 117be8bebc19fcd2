"""What waits, counted across tenants for the operator."""

from msgspec import Struct

from weir_shared.db.pool import Connection


class Waiting(Struct, frozen=True, kw_only=True):
    """`oldest_file_seconds` is 0 when no file waits."""

    confirmations: int
    files: int
    oldest_file_seconds: float


async def count_any(connection: Connection) -> Waiting:
    row = await connection.fetchrow(
        """
        select count(*) as files,
               coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as oldest_file_seconds,
               (
                   select count(*) from confirmations where status = 'pending' and expires_at > now()
               ) as confirmations
        from knowledge_files
        where status = 'indexing' and (claimed_until is null or claimed_until < now())
        """
    )
    assert row is not None
    return Waiting(**dict(row))
