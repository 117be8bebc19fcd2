"""Passages and their vectors as rows: written by whoever has claimed their file, found by nearness and by words."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from weir_shared.db.pool import Connection

LEASE_SECONDS = 60
MAX_ATTEMPTS = 5
# As many candidates of each kind are merged.
CANDIDATES = 60
# Of so few vectors all are compared; an index would only cost its detours.
EXACT_VECTORS = 2_000
MAX_INDEXED_DIMENSION = 4_000
# Made from the parameter once, not for each row that it is compared with.
EXACT = "embedding <=> (select $4::real[]::vector)"


class Claimed(Struct, frozen=True, kw_only=True):
    """A file that this worker indexes as long as its claim holds."""

    tenant_id: str
    id: str
    base_id: str
    type: str
    embedding_model_id: int
    attempts: int
    claim: str


class Hit(Struct, frozen=True, kw_only=True):
    id: int
    score: float
    content: str
    position: int
    file_id: str
    file_name: str
    base: str


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


async def count(connection: Connection, tenant_id: str, base_ids: Sequence[str]) -> int:
    found = await connection.fetchval(
        """
        select sum(chunk_count) from knowledge_files
        where tenant_id = $1 and base_id = any($2::uuid[]) and live is not null
        """,
        tenant_id,
        list(base_ids),
    )
    return found or 0


async def near(
    connection: Connection, tenant_id: str, base_ids: Sequence[str], vector: Sequence[float], *, exact: bool
) -> list[int]:
    """The ids of the passages nearest to a vector, nearest first."""
    dimension = len(vector)
    distance = EXACT
    if not exact and dimension <= MAX_INDEXED_DIMENSION:
        # The planner takes the index only for this very expression.
        distance = (
            f"embedding::halfvec({dimension:d}) <=> (select $4::real[]::vector::halfvec({dimension:d}))"
        )
        await connection.execute(
            "set local hnsw.iterative_scan = strict_order; set local hnsw.ef_search = 100; "
            "set local enable_sort = off; set local enable_bitmapscan = off; set local jit = off"
        )
    rows = await connection.fetch(
        # The dimension is a number; the vector itself is a parameter.
        f"""
        select vectors.chunk_id from (
            select chunk_id, {distance} as distance from knowledge_vectors
            where tenant_id = $1 and base_id = any($2::uuid[]) and dimension = {dimension:d}
            order by {distance} limit $3
        ) as vectors
        order by vectors.distance
        """,  # noqa: S608
        tenant_id,
        list(base_ids),
        CANDIDATES,
        list(vector),
    )
    if distance != EXACT:
        # What comes after it in the unit of work is planned as usual.
        await connection.execute("set local enable_sort = on; set local enable_bitmapscan = on")
    return [row["chunk_id"] for row in rows]


async def worded(connection: Connection, base_ids: Sequence[str], words: str) -> list[int]:
    """The ids of the tenant's passages that hold the words best; `words` is as a web search is written."""
    rows = await connection.fetch(
        "select id from knowledge_worded($1, $2, $3) as id", list(base_ids), words, CANDIDATES
    )
    return [row["id"] for row in rows]


async def read(
    connection: Connection, tenant_id: str, ids: Sequence[int], vector: Sequence[float]
) -> dict[int, Hit]:
    """Those of the passages that searches may see, with their exact nearness."""
    rows = await connection.fetch(
        """
        -- A vector of nothing but zeros is near to nothing, which pgvector tells by NaN.
        select chunks.id, coalesce(nullif(1 - (vectors.embedding <=> (select $3::real[]::vector)), 'NaN'), 0) as score, chunks.content, chunks.position,
               files.id as file_id, files.name as file_name, bases.name as base
        from knowledge_chunks as chunks
        join knowledge_vectors as vectors on vectors.tenant_id = $1 and vectors.chunk_id = chunks.id
        join knowledge_files as files on files.tenant_id = $1 and files.id = chunks.file_id
        join knowledge_bases as bases on bases.tenant_id = $1 and bases.id = chunks.base_id
        where chunks.tenant_id = $1 and chunks.id = any($2::bigint[]) and files.live = chunks.generation
              and vectors.dimension = $4
        """,
        tenant_id,
        list(ids),
        list(vector),
        len(vector),
    )
    return {row["id"]: Hit(**dict(row)) for row in rows}
