"""/api/v1/triggers, and /api/v1/webhooks at which deliveries arrive"""

from typing import Any

from litestar import Request, delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from weir.agent_engine import firing, triggers
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.triggers import Delivered, Firing, NewTrigger, TriggerChange, TriggerDetail
from weir_shared.auth.guards import open_to_all, requires_scope
from weir_shared.auth.principal import Principal

GUARDS = [requires_scope("tasks")]


@get("/triggers", guards=GUARDS)
async def list_triggers(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal]
) -> list[TriggerDetail]:
    """The caller's triggers, oldest first; an administrator sees the tenant's."""
    return await triggers.list_triggers(studio.database, principal)


@post("/triggers", guards=GUARDS)
async def create_trigger(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], data: JSONBody[NewTrigger]
) -> TriggerDetail:
    """Has tasks created by a schedule, by deliveries to a webhook, or by refreshes of datasets."""
    return await triggers.create_trigger(studio, principal, data)


@get("/triggers/{trigger_id:str}", guards=GUARDS)
async def read_trigger(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], trigger_id: FromPath[str]
) -> TriggerDetail:
    """One trigger: when it fired last, when it will next, and what failed."""
    return await triggers.read_trigger(studio.database, principal, trigger_id)


@put("/triggers/{trigger_id:str}", guards=GUARDS)
async def put_trigger(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    trigger_id: FromPath[str],
    data: JSONBody[TriggerChange],
) -> TriggerDetail:
    """Changes a trigger; what is left out stays."""
    return await triggers.change_trigger(studio, principal, trigger_id, data)


@patch("/triggers/{trigger_id:str}", guards=GUARDS)
async def change_trigger(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    trigger_id: FromPath[str],
    data: JSONBody[TriggerChange],
) -> TriggerDetail:
    """Changes a trigger; what is left out stays."""
    return await triggers.change_trigger(studio, principal, trigger_id, data)


@delete("/triggers/{trigger_id:str}", guards=GUARDS)
async def delete_trigger(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], trigger_id: FromPath[str]
) -> None:
    """Stops a trigger for good; its tasks stay."""
    await triggers.delete_trigger(studio.database, principal, trigger_id)


@get("/triggers/{trigger_id:str}/firings", guards=GUARDS)
async def list_firings(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], trigger_id: FromPath[str]
) -> list[Firing]:
    """The latest events of a trigger, newest first: the task of each, or why it became none."""
    return await triggers.list_firings(studio.database, principal, trigger_id)


@post("/webhooks/{path:str}", guards=[open_to_all], status_code=202)
async def deliver(
    request: Request[Any, Any, Any], studio: NamedDependency[Studio], path: FromPath[str]
) -> Delivered:
    """Takes a delivery of whoever knows the webhook's secret; the body is given to the agent as data."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    return await firing.deliver(studio, path, headers, await request.body())


ROUTES = [
    list_triggers,
    create_trigger,
    read_trigger,
    put_trigger,
    change_trigger,
    delete_trigger,
    list_firings,
]
DOORS = [deliver]
