"""/api/v1/audit: what was done, for administrators."""

from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from weir.agent_engine import oversight
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.audit import ToolCallPage
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.web.filters import DEFAULT_PER_PAGE, page_of


@get("/audit/tool-calls", guards=[requires_scope("admin")])
async def list_tool_calls(
    *,
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    session_id: FromQuery[str | None] = None,
    agent: FromQuery[str | None] = None,
    tool: FromQuery[str | None] = None,
    status: FromQuery[str | None] = None,
    user_id: FromQuery[str | None] = None,
    made_from: Annotated[str | None, QueryParameter(name="from")] = None,
    made_to: Annotated[str | None, QueryParameter(name="to")] = None,
    page: FromQuery[int] = 1,
    per_page: FromQuery[int] = DEFAULT_PER_PAGE,
) -> ToolCallPage:
    """Every call of a tool in the tenant's sessions, newest first; its filters combine.

    `from` and `to` are moments or days (UTC); a day as `to` is included. Calls of sessions that were deleted stay.
    """
    wanted = oversight.filter_of(
        session_id=session_id,
        agent=agent,
        tool=tool,
        status=status,
        user_id=user_id,
        made_from=made_from,
        made_to=made_to,
    )
    return await oversight.list_tool_calls(
        studio.database, principal.tenant_id, wanted, page_of(page, per_page)
    )


ROUTES = [list_tool_calls]
