"""/api/v1/agents/{name}/capabilities"""

from litestar import delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from weir.agent_engine import capabilities
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.capabilities import CapabilityChange, CapabilityDetail, NewCapability
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal

READ = [requires_scope("agents:read")]
WRITE = [requires_scope("agents:write")]


@get("/agents/{name:str}/capabilities", guards=READ)
async def list_capabilities(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
) -> list[CapabilityDetail]:
    """The agent's capabilities, oldest first."""
    return await capabilities.list_capabilities(studio.database, principal.tenant_id, name)


@post("/agents/{name:str}/capabilities", guards=WRITE)
async def create_capability(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    data: JSONBody[NewCapability],
) -> CapabilityDetail:
    """Gives the agent a capability, one of each type at most."""
    return await capabilities.create_capability(studio.database, principal.tenant_id, name, data)


@put("/agents/{name:str}/capabilities/{capability_id:str}", guards=WRITE)
async def update_capability(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    capability_id: FromPath[str],
    data: JSONBody[CapabilityChange],
) -> CapabilityDetail:
    """Changes the fields that are sent, and the keys of `config` that are."""
    return await capabilities.change_capability(
        studio.database, principal.tenant_id, name, capability_id, data
    )


@patch("/agents/{name:str}/capabilities/{capability_id:str}", guards=WRITE)
async def patch_capability(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    capability_id: FromPath[str],
    data: JSONBody[CapabilityChange],
) -> CapabilityDetail:
    """The same as PUT."""
    return await capabilities.change_capability(
        studio.database, principal.tenant_id, name, capability_id, data
    )


@delete("/agents/{name:str}/capabilities/{capability_id:str}", guards=WRITE)
async def delete_capability(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    capability_id: FromPath[str],
) -> None:
    """Takes a capability from the agent."""
    await capabilities.delete_capability(studio.database, principal.tenant_id, name, capability_id)


ROUTES = [list_capabilities, create_capability, update_capability, patch_capability, delete_capability]
