"""`/v1/context-lake/status`, `/tables`: what the lake does."""

from typing import Any

from litestar import Router, get
from litestar.di import NamedDependency

from weir.context_lake import status
from weir.context_lake.status import StatusDesk
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal


@get("/status", guards=[requires_scope("lake:read")])
async def show_status(
    principal: NamedDependency[Principal], status_desk: NamedDependency[StatusDesk]
) -> dict[str, Any]:
    """The runtime's state and each dataset's; wakes nothing."""
    return await status.read_status(status_desk, principal)


@get("/tables", guards=[requires_scope("lake:query")])
async def list_tables(
    principal: NamedDependency[Principal], status_desk: NamedDependency[StatusDesk]
) -> dict[str, Any]:
    """Every table that a query may name, with its columns; wakes the runtime."""
    return {"tables": await status.list_tables(status_desk, principal)}


routes = Router("/v1/context-lake", route_handlers=[show_status, list_tables], tags=["context lake"])
