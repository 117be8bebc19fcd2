"""/api/v1/models/registry"""

from litestar import get
from litestar.params import FromQuery

from weir.agent_engine.models.catalogue import catalogue, known_models
from weir.agent_engine.wire.registry import ListedModel, ListedProvider
from weir_shared.auth.guards import open_to_all


@get("/models/registry", guards=[open_to_all])
async def list_known_models(
    provider: FromQuery[str | None] = None,
    tier: FromQuery[str | None] = None,
    supports_tools: FromQuery[str | None] = None,
) -> list[ListedModel]:
    """The built-in catalogue of known models; its filters combine."""
    return known_models(provider, tier, supports_tools)


@get("/models/registry/providers", guards=[open_to_all])
async def list_providers() -> list[ListedProvider]:
    """The providers of models that the platform knows."""
    return catalogue().providers


ROUTES = [list_known_models, list_providers]
