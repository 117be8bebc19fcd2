"""What the gateway asks the studio about itself."""

from litestar import get
from litestar.di import NamedDependency

from weir.agent_engine import agents
from weir.agent_engine.studio import Studio
from weir_shared.auth.guards import open_to_all
from weir_shared.auth.principal import Principal


@get("/internal/agents-count", guards=[open_to_all], include_in_schema=False)
async def count_agents(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal]
) -> dict[str, int]:
    """How many agents the ticket's tenant has."""
    return {"agents_count": await agents.count_agents(studio.database, principal.tenant_id)}
