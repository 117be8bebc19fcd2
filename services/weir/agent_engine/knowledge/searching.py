"""Finding passages: by the nearness of their vectors and by their words, merged by reciprocal ranks."""

import asyncio
import re
from collections import defaultdict
from collections.abc import Sequence

from weir.agent_engine.embedding import EmbeddingFailed, spent_on
from weir.agent_engine.knowledge.bases import find_base
from weir.agent_engine.knowledge.vectors import require_vectors
from weir.agent_engine.models.base import ModelError
from weir.agent_engine.models.embeddings import MAX_TEXT_CHARACTERS
from weir.agent_engine.naming import invalid
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import knowledge, models, passages, usage
from weir.agent_engine.tables.knowledge import BaseRow
from weir.agent_engine.tables.passages import Hit
from weir.agent_engine.tables.usage import Spent
from weir.agent_engine.wire.knowledge import Found, Passage, Search

MAX_LIMIT = 20
# What reciprocal ranks are damped by, as is usual.
DAMPING = 60
MAX_WORDS = 32
_WORD = re.compile(r"\w{3,}")


async def search_base(studio: Studio, tenant_id: str, name: str, asked: Search) -> Found:
    """Raises NotFound, ValidationFailed, NoVectors, EmbeddingFailed."""
    async with studio.database.tenant(tenant_id) as connection:
        base = await find_base(connection, tenant_id, name)
    return Found(
        results=await search(
            studio,
            tenant_id,
            [base],
            asked.query,
            limit=asked.limit,
            threshold=asked.similarity_threshold,
        )
    )


async def linked_bases(studio: Studio, tenant_id: str, names: Sequence[str]) -> list[BaseRow]:
    """The bases of those names that there are."""
    async with studio.database.tenant(tenant_id) as connection:
        rows = await knowledge.every_base(connection, tenant_id)
    return [row for row in rows if row.name in names]


async def search(
    studio: Studio,
    tenant_id: str,
    bases: Sequence[BaseRow],
    query: str,
    *,
    limit: int,
    threshold: float | None,
) -> list[Passage]:
    """The best passages of the bases, best first. Raises NoVectors, EmbeddingFailed, ValidationFailed."""
    query = query.replace("\0", " ")[:MAX_TEXT_CHARACTERS]
    if not query.strip():
        raise invalid("query", "say what is looked for")
    await require_vectors(studio.database)
    by_model: defaultdict[int, list[str]] = defaultdict(list)
    for base in bases:
        by_model[base.embedding_model_id].append(base.id)
    ranked: list[tuple[float, Hit]] = []
    for model_id, base_ids in by_model.items():
        # What can be known without the vector does not wait for the model.
        (vector, spent), (worded, exact) = await asyncio.gather(
            _vector(studio, tenant_id, model_id, query), _worded(studio, tenant_id, base_ids, query)
        )
        ranked += await _ranked(studio, tenant_id, base_ids, vector, worded, spent, exact=exact)
    ranked.sort(key=lambda found: (-found[0], -found[1].score, found[1].id))
    near_enough = (hit for _, hit in ranked if threshold is None or hit.score >= threshold)
    return [_passage(hit) for hit in list(near_enough)[: min(limit, MAX_LIMIT)]]


async def _vector(studio: Studio, tenant_id: str, model_id: int, query: str) -> tuple[list[float], Spent]:
    async with studio.database.tenant(tenant_id) as connection:
        row = await models.find(connection, tenant_id, str(model_id))
    if row is None:
        raise invalid("knowledge_base", "its embedding model was deleted; give it another one")
    try:
        access = await studio.models.access(tenant_id, row)
        embedded = await studio.embeddings.embed(access, [query], dimension=row.embedding_dim)
    except ModelError as fault:
        raise EmbeddingFailed(f"Model '{row.name}': {fault}", code=fault.code) from None
    return embedded.vectors.tolist(), spent_on(row.name, embedded)


async def _worded(
    studio: Studio, tenant_id: str, base_ids: Sequence[str], query: str
) -> tuple[list[int], bool]:
    """What holds the query's words, and whether there are so few passages that all are compared."""
    words = " or ".join(f'"{word}"' for word in _WORD.findall(query)[:MAX_WORDS])
    async with studio.database.tenant(tenant_id) as connection:
        exact = await passages.count(connection, tenant_id, base_ids) <= passages.EXACT_VECTORS
        return (await passages.worded(connection, base_ids, words) if words else []), exact


async def _ranked(
    studio: Studio,
    tenant_id: str,
    base_ids: Sequence[str],
    vector: Sequence[float],
    worded: Sequence[int],
    spent: Spent,
    *,
    exact: bool,
) -> list[tuple[float, Hit]]:
    async with studio.database.tenant(tenant_id, waits_for_disk=False) as connection:
        await usage.add(connection, tenant_id, [spent])
        near = await passages.near(connection, tenant_id, base_ids, vector, exact=exact)
        ranks: defaultdict[int, float] = defaultdict(float)
        for found in (near, worded):
            for rank, id in enumerate(found, start=1):
                ranks[id] += 1 / (DAMPING + rank)
        hits = await passages.read(connection, tenant_id, list(ranks), vector)
    return [(ranks[id], hit) for id, hit in hits.items()]


def _passage(hit: Hit) -> Passage:
    return Passage(
        file_id=hit.file_id,
        file_name=hit.file_name,
        knowledge_base=hit.base,
        position=hit.position,
        score=round(hit.score, 4),
        text=hit.content,
    )
