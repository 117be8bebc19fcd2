"""/api/v1/resilience"""

from datetime import UTC, datetime

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import UNSET

from weir.agent_engine.mcp.configured import find_server
from weir.agent_engine.mcp.switchboard import BreakerState
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.mcp_servers import BreakerReset, CircuitBreaker, CircuitBreakers
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.clock import rfc3339

ADMIN = [requires_scope("admin")]


@get("/resilience/circuit-breakers", guards=ADMIN)
async def list_circuit_breakers(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal]
) -> CircuitBreakers:
    """The circuit breakers of the tenant's MCP servers that this process has used, by name."""
    return CircuitBreakers(breakers=[_shown(one) for one in studio.switchboard.breakers(principal.tenant_id)])


@post("/resilience/circuit-breakers/{name:str}/reset", guards=ADMIN, status_code=200)
async def reset_circuit_breaker(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], name: FromPath[str]
) -> BreakerReset:
    """Closes the circuit breaker of an MCP server, so that it is tried again at once."""
    async with studio.database.tenant(principal.tenant_id) as connection:
        row = await find_server(connection, principal.tenant_id, name)
    studio.switchboard.reset(principal.tenant_id, row)
    return BreakerReset(status="reset", name=row.name)


def _shown(state: BreakerState) -> CircuitBreaker:
    last = UNSET
    if state.last_failure is not None:
        last = rfc3339(datetime.fromtimestamp(state.last_failure, UTC))
    return CircuitBreaker(
        name=state.name, state=state.state, failure_count=state.failure_count, last_failure=last
    )


ROUTES = [list_circuit_breakers, reset_circuit_breaker]
