"""`/v1/context-lake/start`, `/stop`, `/redeploy`: the runtime, asked for by hand."""

from typing import Annotated, Any

from litestar import Response, Router, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from weir.context_lake import lifecycle
from weir.context_lake.lifecycle import Outcome
from weir.context_lake.vms.waking import Vms
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal


@post("/start", status_code=202)
async def start(
    principal: NamedDependency[Principal],
    vms: NamedDependency[Vms],
    wait: Annotated[int, QueryParameter(ge=0, le=180, description="Seconds to wait for it")] = 0,
) -> Response[dict[str, Any]]:
    """Starts the runtime; 200 when it runs, 202 while it starts."""
    return _told(await lifecycle.start(vms, principal, wait_seconds=wait))


@post("/stop", status_code=202)
async def stop(
    principal: NamedDependency[Principal], vms: NamedDependency[Vms], force: FromQuery[bool] = False
) -> Response[dict[str, Any]]:
    """Hibernates the runtime; running queries get 30 seconds, or none with `force`."""
    return _told(await lifecycle.stop(vms, principal, force=force))


@post("/redeploy", status_code=202)
async def redeploy(
    principal: NamedDependency[Principal], vms: NamedDependency[Vms]
) -> Response[dict[str, Any]]:
    """Registers every dataset anew; a lake that sleeps does so when it starts."""
    return _told(await lifecycle.redeploy(vms, principal))


def _told(outcome: Outcome) -> Response[dict[str, Any]]:
    return Response({"ok": True, **outcome.told}, status_code=200 if outcome.is_done else 202)


routes = Router(
    "/v1/context-lake",
    route_handlers=[start, stop, redeploy],
    guards=[requires_scope("lake:admin")],
    tags=["context lake"],
)
