"""Embedding a tenant's texts with one of the tenant's own models."""

from collections.abc import Sequence

from msgspec import Struct

from weir.agent_engine.models.base import ModelError
from weir.agent_engine.models.configured import Models
from weir.agent_engine.models.embeddings import Embedded, Embeddings
from weir.agent_engine.tables import usage
from weir.agent_engine.tables.usage import Spent
from weir_shared.db.pool import Database
from weir_shared.errors import BadGateway, InvalidRequest

MAX_TEXTS = 4096


class EmbeddingFailed(BadGateway):
    """The model's provider did not embed; the sentence says why, the code is the model client's own."""


class TextsEmbedded(Struct, frozen=True):
    model: str
    embedded: Embedded


async def embed(
    database: Database,
    models: Models,
    embeddings: Embeddings,
    tenant_id: str,
    texts: Sequence[str],
    model: str | None,
) -> TextsEmbedded:
    """Raises NotFound, NoEmbedder, InvalidRequest, EmbeddingFailed."""
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise InvalidRequest(f"Between 1 and {MAX_TEXTS} texts are embedded at a time")
    if not all(text.strip() for text in texts):
        raise InvalidRequest("An empty text has no embedding")
    row = await models.find_embedder(tenant_id, model)
    try:
        access = await models.access(tenant_id, row)
        embedded = await embeddings.embed(access, texts, dimension=row.embedding_dim)
    except ModelError as fault:
        raise EmbeddingFailed(f"Model '{row.name}': {fault}", code=fault.code) from None
    async with database.tenant(tenant_id, waits_for_disk=False) as connection:
        await usage.add(connection, tenant_id, [spent_on(row.name, embedded)])
    return TextsEmbedded(row.name, embedded)


def spent_on(model: str, embedded: Embedded) -> Spent:
    """What embedding took; no agent has asked for it."""
    return Spent(model=model, requests=embedded.requests, input_tokens=embedded.tokens)
