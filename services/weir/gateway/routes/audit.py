"""`/api/v1/audit`: who changed what."""

from typing import Annotated

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from weir.gateway.audit import EntryPage, Trail
from weir.gateway.tables.audit_log import EntryFilter
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.auth.scopes import ADMIN
from weir_shared.web.filters import DEFAULT_PER_PAGE, moment_of, page_of, text_of

AUDIT = "/api/v1/audit"


@get("/")
async def list_entries(
    *,
    principal: NamedDependency[Principal],
    trail: NamedDependency[Trail],
    actor_type: FromQuery[str | None] = None,
    actor_id: FromQuery[str | None] = None,
    action: FromQuery[str | None] = None,
    resource: FromQuery[str | None] = None,
    status_code: FromQuery[int | None] = None,
    made_from: Annotated[str | None, QueryParameter(name="from")] = None,
    made_to: Annotated[str | None, QueryParameter(name="to")] = None,
    page: FromQuery[int] = 1,
    per_page: FromQuery[int] = DEFAULT_PER_PAGE,
) -> EntryPage:
    """Every change of the tenant's engine and lake, chats, and what was refused; newest first, filters combine.

    `resource` is the method and the path, `from` and `to` are moments or days (UTC).
    """
    wanted = EntryFilter(
        actor_type=text_of(actor_type),
        actor_id=text_of(actor_id),
        action=text_of(action),
        resource=text_of(resource),
        status_code=status_code,
        made_from=moment_of("from", made_from),
        made_to=moment_of("to", made_to, ends=True),
    )
    return await trail.page(principal.tenant_id, wanted, page_of(page, per_page))


audit_log = Router(AUDIT, route_handlers=[list_entries], guards=[requires_scope(ADMIN)], tags=["operations"])
