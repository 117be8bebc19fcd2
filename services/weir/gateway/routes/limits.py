"""`/api/v1/rate-limits`: how much of a limit is used."""

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import FromQuery

from weir.gateway.admission import Admission, Usage
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.auth.scopes import ADMIN


@get("/usage")
async def show_usage(
    principal: NamedDependency[Principal],
    admission: NamedDependency[Admission],
    key_header: FromQuery[str | None] = None,
    key_value: FromQuery[str | None] = None,
) -> Usage:
    """What the requests with this value of the header have used, by the first rule that counts by it.

    404 when no rule does. A key that was never seen has used nothing of its default tier.
    """
    return await admission.usage(principal, key_header, key_value)


rate_limits = Router(
    "/api/v1/rate-limits", route_handlers=[show_usage], guards=[requires_scope(ADMIN)], tags=["operations"]
)
