"""`/api/hooks/cl/clwh_…`: the door of a lake's webhook. The token is the credential."""

from typing import Annotated

from litestar import Router, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from weir.context_lake import webhooks
from weir.context_lake.changing import Catalogue
from weir_shared.auth.guards import open_to_all


class Heard(Struct, frozen=True):
    ok: bool


@post("/{token:str}", guards=[open_to_all], status_code=202)
async def call_webhook(
    token: FromPath[str],
    catalogue: NamedDependency[Catalogue],
    dataset: Annotated[str | None, QueryParameter(description="Only this dataset is read again")] = None,
) -> Heard:
    """Has the lake's datasets read again; further calls within 30 seconds have no effect."""
    await webhooks.call_webhook(catalogue, token, dataset)
    return Heard(ok=True)


routes = Router("/api/hooks/cl", route_handlers=[call_webhook], tags=["context lake"])
