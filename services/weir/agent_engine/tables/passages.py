"""Passages and their vectors as rows, written by whoever has claimed their file."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from weir_shared.db.pool import Connection

LEASE_SECONDS = 60
MAX_ATTEMPTS = 5


class Claimed(Struct, frozen=True, kw_only=True):
    """A file that this worker indexes as long as its claim holds."""

    tenant_id: str
    id: str
    base_id: str
    type: str
    embedding_model_id: int
    attempts: int
    claim: str


async def due_any(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """Files that wait for a worker, or whose worker has died; as tenant and file."""
    rows = await connection.fetch(
        """
        select tenant_id, id from knowledge_files
        where status = 'indexing' and (claimed_until is null or claimed_until < now())
        order by created_at limit $1
        """,
        limit,
    )
    return [(row["tenant_id"], row["id"]) for row in rows]


async def claim_any(connection: Connection, tenant_id: str, id: str, claim: str) -> Claimed | None:
    row = await connection.fetchrow(
        """
        update knowledge_files as files
        set claim = $3, claimed_until = now() + make_interval(secs => $4), attempts = attempts + 1, chunks_done = 0
        from knowledge_bases as bases
        where files.tenant_id = $1 and files.id = $2 and status = 'indexing'
              and (claimed_until is null or claimed_until < now())
              and bases.tenant_id = files.tenant_id and bases.id = files.base_id
        returning files.tenant_id, files.id, files.base_id, files.type, bases.embedding_model_id, files.attempts,
                  files.claim
        """,
        tenant_id,
        id,
        claim,
        LEASE_SECONDS,
    )
    return Claimed(**dict(row)) if row else None


async def hold(connection: Connection, file: Claimed, chunks: int, done: int) -> bool:
    """Keeps the claim for another while, and tells how far it is; False when it is lost."""
    row = await connection.fetchrow(
        """
        update knowledge_files
        set claimed_until = now() + make_interval(secs => $4), chunk_count = $5, chunks_done = $6
        where tenant_id = $1 and id = $2 and claim = $3 and status = 'indexing'
        returning 1
        """,
        file.tenant_id,
        file.id,
        file.claim,
        LEASE_SECONDS,
        chunks,
        done,
    )
    return row is not None


async def clear_unfinished(connection: Connection, file: Claimed) -> None:
    """Drops what earlier attempts have left."""
    await connection.execute(
        """
        delete from knowledge_chunks as chunks
        where tenant_id = $1 and file_id = $2
              and generation is distinct from (select live from knowledge_files where tenant_id = $1 and id = $2)
        """,
        file.tenant_id,
        file.id,
    )


async def add(
    connection: Connection,
    file: Claimed,
    position: int,
    contents: Sequence[str],
    vectors: Sequence[Sequence[float]],
) -> None:
    rows = await connection.fetch(
        """
        insert into knowledge_chunks (tenant_id, base_id, file_id, generation, position, content)
        select $1, $2, $3, $4, $5 + given.place - 1, given.content
        from unnest($6::text[]) with ordinality as given (content, place)
        order by given.place
        returning id, position
        """,
        file.tenant_id,
        file.base_id,
        file.id,
        file.claim,
        position,
        list(contents),
    )
    await connection.executemany(
        """
        insert into knowledge_vectors (chunk_id, tenant_id, base_id, dimension, embedding)
        values ($1, $2, $3, $4, $5::real[]::vector)
        """,
        [
            (row["id"], file.tenant_id, file.base_id, len(vector), vector)
            for row in rows
            for vector in (vectors[row["position"] - position],)
        ],
    )


async def publish(connection: Connection, file: Claimed, chunks: int, at: datetime) -> bool:
    """Lets searches see the new passages in place of the old ones; False when the claim is lost."""
    row = await connection.fetchrow(
        """
        update knowledge_files
        set status = 'ready', message = null, live = claim, chunk_count = $4, chunks_done = $4, indexed_at = $5,
            claimed_until = null
        where tenant_id = $1 and id = $2 and claim = $3 and status = 'indexing'
        returning 1
        """,
        file.tenant_id,
        file.id,
        file.claim,
        chunks,
        at,
    )
    if row is not None:
        await clear_unfinished(connection, file)
    return row is not None


async def fail(connection: Connection, file: Claimed, message: str) -> None:
    await connection.execute(
        """
        update knowledge_files set status = 'error', message = $4, claimed_until = null
        where tenant_id = $1 and id = $2 and claim = $3 and status = 'indexing'
        """,
        file.tenant_id,
        file.id,
        file.claim,
        message,
    )


async def make_index_any(connection: Connection, dimension: int) -> None:
    await connection.execute("select make_knowledge_index($1)", dimension)


async def take_stock_any(connection: Connection) -> None:
    """Renews what the planner knows of the tables: the database does so by itself, but a minute later."""
    await connection.execute("analyze knowledge_chunks, knowledge_vectors, knowledge_files")
