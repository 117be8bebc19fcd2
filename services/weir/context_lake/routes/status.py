"""`/v1/context-lake/status`, `/tables`, `/config`: what the lake holds and does."""

from typing import Any

from litestar import Router, get
from litestar.di import NamedDependency

from weir.context_lake import datasets, page, status
from weir.context_lake.datasets import Catalogue
from weir.context_lake.status import StatusDesk
from weir.context_lake.vms.waking import Vms
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.clock import rfc3339


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


@get("/config", guards=[requires_scope("lake:read")])
async def show_config(
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    vms: NamedDependency[Vms],
) -> dict[str, Any]:
    """The whole configuration, parsed and as YAML."""
    lake = await datasets.read_lake(catalogue, principal)
    spicepod = page.spicepod_of(lake.document)
    return {
        "yaml": page.yaml_of(spicepod),
        "config": spicepod,
        "version": lake.version,
        "appliedVersion": (await vms.look(principal.tenant_id)).applied_version,
        "updatedAt": rfc3339(lake.updated_at) if lake.updated_at else None,
    }


routes = Router(
    "/v1/context-lake", route_handlers=[show_status, list_tables, show_config], tags=["context lake"]
)
