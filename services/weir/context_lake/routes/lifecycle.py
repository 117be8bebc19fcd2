"""`/v1/context-lake/start`, `/stop`, `/redeploy`, `/settings`: the runtime, asked for by hand."""

from typing import Annotated, Any

from litestar import Response, Router, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody, QueryParameter

from weir.context_lake import lifecycle
from weir.context_lake.lifecycle import LakeSettings, Outcome
from weir.context_lake.routes.guards import requires_json
from weir.context_lake.vms.waking import Vms
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Database

ADMIN = [requires_scope("lake:admin")]
Wait = Annotated[int, QueryParameter(ge=0, le=180, description="Seconds to wait for it")]


@post("/start", status_code=202, guards=ADMIN)
async def start(
    principal: NamedDependency[Principal],
    vms: NamedDependency[Vms],
    wait: Wait = 0,
) -> Response[dict[str, Any]]:
    """Starts the runtime; 200 when it runs, 202 while it starts."""
    return _told(await lifecycle.start(vms, principal, wait_seconds=wait))


@post("/stop", status_code=202, guards=ADMIN)
async def stop(
    principal: NamedDependency[Principal],
    vms: NamedDependency[Vms],
    force: FromQuery[bool] = False,
    wait: Wait = 0,
) -> Response[dict[str, Any]]:
    """Hibernates the runtime; running queries get 30 seconds, or none with `force`."""
    return _told(await lifecycle.stop(vms, principal, force=force, wait_seconds=wait))


@post("/redeploy", status_code=202, guards=ADMIN)
async def redeploy(
    principal: NamedDependency[Principal], vms: NamedDependency[Vms], wait: Wait = 0
) -> Response[dict[str, Any]]:
    """Registers every dataset anew; a lake that sleeps does so when it starts."""
    return _told(await lifecycle.redeploy(vms, principal, wait_seconds=wait))


@get("/settings", guards=[requires_scope("lake:read")])
async def show_settings(
    principal: NamedDependency[Principal], database: NamedDependency[Database]
) -> LakeSettings:
    """How the lake is run."""
    return await lifecycle.read_settings(database, principal)


@put("/settings", guards=[*ADMIN, requires_json])
async def change_settings(
    data: JSONBody[LakeSettings], principal: NamedDependency[Principal], database: NamedDependency[Database]
) -> LakeSettings:
    """Sets how the lake is run."""
    return await lifecycle.change_settings(database, principal, data)


def _told(outcome: Outcome) -> Response[dict[str, Any]]:
    return Response({"ok": True, **outcome.told}, status_code=200 if outcome.is_done else 202)


routes = Router(
    "/v1/context-lake",
    route_handlers=[start, stop, redeploy, show_settings, change_settings],
    tags=["context lake"],
)
