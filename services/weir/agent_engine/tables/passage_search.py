"""Passages found by the nearness of their vectors and by their words."""

from collections.abc import Sequence

from msgspec import Struct

from weir_shared.db.pool import Connection

# As many candidates of each kind are merged.
CANDIDATES = 60
# What reciprocal ranks are damped by, as is usual.
DAMPING = 60
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


async def worded(connection: Connection, base_ids: Sequence[str], words: str) -> list[int]:
    """The ids of the tenant's passages that hold the words best; `words` is as a web search is written."""
    rows = await connection.fetch(
        "select id from knowledge_worded($1, $2, $3) as id", list(base_ids), words, CANDIDATES
    )
    return [row["id"] for row in rows]


async def best(
    connection: Connection,
    tenant_id: str,
    base_ids: Sequence[str],
    vector: Sequence[float],
    worded: Sequence[int],
    *,
    exact: bool,
    most: int,
) -> list[Hit]:
    """The best of those near to the vector and of those with the words, by their reciprocal ranks, best first.

    Only what searches may see is counted. Of equal ranks the nearer one comes first, and all that are equal to the last
    are told.
    """
    dimension = len(vector)
    distance = EXACT
    if not exact and dimension <= MAX_INDEXED_DIMENSION:
        # The planner takes the index only for this very expression.
        distance = (
            f"embedding::halfvec({dimension:d}) <=> (select $3::real[]::vector::halfvec({dimension:d}))"
        )
        await connection.execute(
            "set local hnsw.iterative_scan = strict_order; set local hnsw.ef_search = 100; "
            "set local enable_sort = off; set local enable_bitmapscan = off; set local jit = off"
        )
    rows = await connection.fetch(
        # The dimension and the damping are numbers; the vector itself is a parameter.
        f"""
        with near as materialized (
            select chunk_id as id, {distance} as distance from knowledge_vectors
            where tenant_id = $1 and base_id = any($2::uuid[]) and dimension = {dimension:d}
            order by {distance} limit $4
        ), ranked as (
            select id, sum(1.0::float8 / ({DAMPING:d} + place)) as rank
            from (
                select id, row_number() over (order by distance) as place from near
                union all
                select id, place from unnest($5::bigint[]) with ordinality as worded (id, place)
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
                 on vectors.tenant_id = $1 and vectors.chunk_id = ranked.id and vectors.dimension = {dimension:d}
            order by ranked.rank desc
            fetch first $6 rows with ties
        )
        -- A vector of nothing but zeros is near to nothing, which pgvector tells by NaN.
        select id, rank, coalesce(nullif(1 - ({EXACT}), 'NaN'), 0) as score, content, position, file_id, file_name,
               base
        from seen
        order by rank desc, score desc, id
        """,  # noqa: S608
        tenant_id,
        list(base_ids),
        list(vector),
        CANDIDATES,
        list(worded),
        most,
    )
    return [Hit(**dict(row)) for row in rows]
