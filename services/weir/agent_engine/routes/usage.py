"""/api/v1/usage"""

from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from weir.agent_engine import usage
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.usage import UsageReport
from weir_shared.auth.guards import requires_caller
from weir_shared.auth.principal import Principal


@get("/usage", guards=[requires_caller])
async def show_usage(
    *,
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    group_by: FromQuery[str] = "model",
    made_from: Annotated[str | None, QueryParameter(name="from")] = None,
    made_to: Annotated[str | None, QueryParameter(name="to")] = None,
) -> UsageReport:
    """What the tenant has, and the tokens of its turns by model, day or agent.

    `from` and `to` are days (UTC), both included; of a moment its day is meant. A turn is counted on the day of its end,
    also when it failed and when its session was deleted.
    """
    return await usage.report(
        studio.database, principal.tenant_id, group_by=group_by, made_from=made_from, made_to=made_to
    )


ROUTES = [show_usage]
