"""`/v1/context-lake/views`: the views of a lake."""

from litestar import Router, get
from litestar.di import NamedDependency
from msgspec import Struct

from weir.context_lake import datasets
from weir.context_lake.datasets import Catalogue
from weir.context_lake.document import View
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal


class ViewList(Struct, frozen=True):
    views: list[View]


@get("/", guards=[requires_scope("lake:read")])
async def list_views(
    principal: NamedDependency[Principal], catalogue: NamedDependency[Catalogue]
) -> ViewList:
    """Every view, by name."""
    lake = await datasets.read_lake(catalogue, principal)
    return ViewList(lake.document.views)


routes = Router("/v1/context-lake/views", route_handlers=[list_views], tags=["context lake"])
