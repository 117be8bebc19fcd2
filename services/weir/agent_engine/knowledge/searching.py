"""Finding passages: by the nearness of their vectors and by their words, merged by reciprocal ranks."""

import asyncio
import re
from collections import defaultdict
from collections.abc import Sequence

from msgspec import Struct

from weir.agent_engine.embedding import EmbeddingFailed, spent_on
from weir.agent_engine.knowledge.bases import find_base
from weir.agent_engine.knowledge.vectors import require_vectors
from weir.agent_engine.models.base import ModelError
from weir.agent_engine.models.embeddings import MAX_TEXT_CHARACTERS
from weir.agent_engine.naming import invalid
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import knowledge, models, passage_search, usage
from weir.agent_engine.tables.knowledge import BaseRow
from weir.agent_engine.tables.models import ModelRow
from weir.agent_engine.tables.passage_search import Hit
from weir.agent_engine.wire.knowledge import Found, Passage, Search
from weir_shared.db.pool import Connection

MAX_LIMIT = 20
MAX_WORDS = 32
_WORD = re.compile(r"\w{3,}")


async def search_base(studio: Studio, tenant_id: str, name: str, asked: Search) -> Found:
    """Raises NotFound, ValidationFailed, NoVectors, EmbeddingFailed."""
    query = _checked(asked.query)
    await require_vectors(studio.database)
    async with studio.database.tenant(tenant_id) as connection:
        places = await _places(connection, tenant_id, [await find_base(connection, tenant_id, name)])
    return Found(
        results=await _search(
            studio, tenant_id, places, query, limit=asked.limit, threshold=asked.similarity_threshold
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
    query = _checked(query)
    await require_vectors(studio.database)
    async with studio.database.tenant(tenant_id) as connection:
        places = await _places(connection, tenant_id, bases)
    return await _search(studio, tenant_id, places, query, limit=limit, threshold=threshold)


def _checked(query: str) -> str:
    query = query.replace("\0", " ")[:MAX_TEXT_CHARACTERS]
    if not query.strip():
        raise invalid("query", "say what is looked for")
    return query


class _Place(Struct, frozen=True):
    """Bases whose vectors are of one model, and so can be compared."""

    model: ModelRow
    base_ids: list[str]
    passages: int


async def _places(connection: Connection, tenant_id: str, bases: Sequence[BaseRow]) -> list[_Place]:
    by_model: defaultdict[int, list[str]] = defaultdict(list)
    for base in bases:
        by_model[base.embedding_model_id].append(base.id)
    places: list[_Place] = []
    for model_id, base_ids in by_model.items():
        model = await models.find(connection, tenant_id, str(model_id))
        if model is None:
            raise invalid("knowledge_base", "its embedding model was deleted; give it another one")
        passages = await passage_search.count(connection, tenant_id, base_ids)
        places.append(_Place(model, base_ids, passages))
    return places


async def _search(
    studio: Studio,
    tenant_id: str,
    places: Sequence[_Place],
    query: str,
    *,
    limit: int,
    threshold: float | None,
) -> list[Passage]:
    limit = min(limit, MAX_LIMIT)
    # What is far away is left out after the ranks are known: then all candidates have to be looked at.
    most = limit if threshold is None else 2 * passage_search.CANDIDATES
    found: list[Hit] = []
    for place in places:
        # What can be known without the vector does not wait for the model.
        (vector, near), worded = await asyncio.gather(
            _near(studio, tenant_id, place, query), _worded(studio, tenant_id, place, query)
        )
        async with studio.database.tenant(tenant_id) as connection:
            found += await passage_search.best(connection, tenant_id, near, worded, vector, most=most)
    found.sort(key=lambda hit: (-hit.rank, -hit.score, hit.id))
    return [_passage(hit) for hit in found if threshold is None or hit.score >= threshold][:limit]


async def _near(
    studio: Studio, tenant_id: str, place: _Place, query: str
) -> tuple[Sequence[float], list[int]]:
    """The query's vector, and what is near to it."""
    model = place.model
    try:
        access = await studio.models.access(tenant_id, model)
        embedded = await studio.embeddings.embed(access, [query], dimension=model.embedding_dim)
    except ModelError as fault:
        raise EmbeddingFailed(f"Model '{model.name}': {fault}", code=fault.code) from None
    exact = place.passages <= passage_search.EXACT_VECTORS
    async with studio.database.tenant(tenant_id, waits_for_disk=False) as connection:
        await usage.add(connection, tenant_id, [spent_on(model.name, embedded)])
        near = await passage_search.near(connection, tenant_id, place.base_ids, embedded.vectors, exact=exact)
    return embedded.vectors, near


async def _worded(studio: Studio, tenant_id: str, place: _Place, query: str) -> list[int]:
    """What holds the query's words."""
    words = list(dict.fromkeys(_WORD.findall(query.lower())))[:MAX_WORDS]
    if not words:
        return []
    async with studio.database.tenant(tenant_id) as connection:
        return await passage_search.worded(connection, place.base_ids, words, place.passages)


def _passage(hit: Hit) -> Passage:
    return Passage(
        file_id=hit.file_id,
        file_name=hit.file_name,
        knowledge_base=hit.base,
        position=hit.position,
        score=round(hit.score, 4),
        text=hit.content,
    )
