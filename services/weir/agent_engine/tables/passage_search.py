"""Passages found by the nearness of their vectors and by their words."""

from collections.abc import Sequence

from msgspec import Struct

from weir_shared.db.pool import Connection

# As many candidates of each kind are merged.
CANDIDATES = 60
# What reciprocal ranks are damped by, as is usual.
DAMPING = 60
# As many neighbours the index keeps in view while it looks for them.
LOOKED_AT = 64
# A word that so many passages hold tells nothing of them.
COMMON = 2_000
# Of so few vectors all are compared; an index would only cost its detours.
EXACT_VECTORS = 2_000
MAX_INDEXED_DIMENSION = 4_000
# Made from the parameter once, not for each row that it is compared with.
EXACT = "embedding <=> (select $3::real[]::vector)"


class Hit(Struct, frozen=True, kw_only=True):
    id: int
    rank: float
    """Of both kinds, merged: the greater the better."""
    score: float
    content: str
    position: int
    file_id: str
    file_name: str
    base: str


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


async def worded(
    connection: Connection, base_ids: Sequence[str], words: Sequence[str], passages: int
) -> list[int]:
    """The ids of the tenant's passages that hold the words best, of so many passages in all, best first."""
    rows = await connection.fetch(
        "select id from knowledge_with_words($1, $2, $3, $4, $5) as id",
        list(base_ids),
        list(words),
        passages,
        COMMON,
        CANDIDATES,
    )
    return [row["id"] for row in rows]


async def near(
    connection: Connection, tenant_id: str, base_ids: Sequence[str], vector: Sequence[float], *, exact: bool
) -> list[int]:
    """The ids of the passages nearest to a vector, nearest first."""
    dimension = len(vector)
    distance = EXACT
    if not exact and dimension <= MAX_INDEXED_DIMENSION:
        # The planner takes the index only for this very expression.
        distance = (
            f"embedding::halfvec({dimension:d}) <=> (select $3::real[]::vector::halfvec({dimension:d}))"
        )
        await connection.execute(
            f"set local hnsw.iterative_scan = strict_order; set local hnsw.ef_search = {LOOKED_AT:d}; "
            "set local enable_sort = off; set local enable_bitmapscan = off; set local jit = off"
        )
    rows = await connection.fetch(
        # The dimension is a number; the vector itself is a parameter.
        f"""
        select vectors.chunk_id from (
            select chunk_id, {distance} as distance from knowledge_vectors
            where tenant_id = $1 and base_id = any($2::uuid[]) and dimension = {dimension:d}
            order by {distance} limit $4
        ) as vectors
        order by vectors.distance
        """,  # noqa: S608
        tenant_id,
        list(base_ids),
        list(vector),
        CANDIDATES,
    )
    return [row["chunk_id"] for row in rows]


async def best(
    connection: Connection,
    tenant_id: str,
    near: Sequence[int],
    worded: Sequence[int],
    vector: Sequence[float],
    *,
    most: int,
) -> list[Hit]:
    """The best of those near to the vector and of those with the words, by their reciprocal ranks, best first.

    Only what searches may see is counted. Of equal ranks the nearer one comes first, and all that are equal to the last
    are told.
    """
    rows = await connection.fetch(
        f"""
        with ranked as (
            select id, sum(1.0::float8 / ({DAMPING:d} + place)) as rank
            from (
                select id, place from unnest($2::bigint[]) with ordinality as near (id, place)
                union all
                select id, place from unnest($3::bigint[]) with ordinality as worded (id, place)
            ) as found
            group by id
        ), seen as materialized (
            select ranked.id, ranked.rank, chunks.content, chunks.position, files.id as file_id,
                   files.name as file_name, bases.name as base, vectors.embedding
            from ranked
            join knowledge_chunks as chunks on chunks.tenant_id = $1 and chunks.id = ranked.id
            join knowledge_files as files
                 on files.tenant_id = $1 and files.id = chunks.file_id and files.live = chunks.generation
            join knowledge_bases as bases on bases.tenant_id = $1 and bases.id = chunks.base_id
            join knowledge_vectors as vectors
                 on vectors.tenant_id = $1 and vectors.chunk_id = ranked.id and vectors.dimension = $5
            order by ranked.rank desc
            fetch first $6 rows with ties
        )
        -- A vector of nothing but zeros is near to nothing, which pgvector tells by NaN.
        select id, rank, coalesce(nullif(1 - (embedding <=> (select $4::real[]::vector)), 'NaN'), 0) as score, content,
               position, file_id, file_name, base
        from seen
        order by rank desc, score desc, id
        """,  # noqa: S608
        tenant_id,
        list(near),
        list(worded),
        list(vector),
        len(vector),
        most,
    )
    return [Hit(**dict(row)) for row in rows]
