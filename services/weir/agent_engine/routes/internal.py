"""What the other rooms ask the studio: about itself, and for embeddings."""

from typing import Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from weir.agent_engine import agents
from weir.agent_engine.embedding import embed
from weir.agent_engine.studio import Studio
from weir_shared.auth.guards import open_to_all, requires_caller
from weir_shared.auth.principal import Principal
from weir_shared.clients.engine import DIMENSION_HEADER, EMBEDDINGS_PATH, MODEL_HEADER, WantedEmbeddings
from weir_shared.web.leaving import CallerLeft, unless_gone


@get("/internal/agents-count", guards=[open_to_all], include_in_schema=False)
async def count_agents(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal]
) -> dict[str, int]:
    """How many agents the ticket's tenant has."""
    return {"agents_count": await agents.count_agents(studio.database, principal.tenant_id)}


@post(EMBEDDINGS_PATH, guards=[requires_caller], status_code=200, include_in_schema=False)
async def embed_texts(
    request: Request[Any, Any, Any],
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    data: JSONBody[WantedEmbeddings],
) -> Response[bytes]:
    """Vectors of the texts, made with a model of the ticket's tenant: float32, one after the other."""
    embedding = embed(
        studio.database, studio.models, studio.embeddings, principal.tenant_id, data.texts, data.model
    )
    try:
        made = await unless_gone(embedding, request.receive)
    except CallerLeft:
        return Response(b"", status_code=499)  # to nobody; it only names the outcome in log and metrics
    headers = {MODEL_HEADER: made.model, DIMENSION_HEADER: str(made.embedded.dimension)}
    return Response(made.embedded.vectors.tobytes(), media_type="application/octet-stream", headers=headers)
