"""/api/v1/agents"""

from litestar import delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from weir.agent_engine import agents, lifecycles
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.agents import AgentChange, AgentDetail, AgentLifecycle, AgentSummary, NewAgent
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal

READ = [requires_scope("agents:read")]
WRITE = [requires_scope("agents:write")]


@get("/agents", guards=READ)
async def list_agents(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal]
) -> list[AgentSummary]:
    """The tenant's agents, by name."""
    return await agents.list_agents(studio.database, principal.tenant_id)


@post("/agents", guards=WRITE)
async def create_agent(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], data: JSONBody[NewAgent]
) -> AgentDetail:
    """Creates an agent; without a model it gets the tenant's default one."""
    return await agents.create_agent(studio.database, principal.tenant_id, data)


@get("/agents/{name:str}", guards=READ)
async def read_agent(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], name: FromPath[str]
) -> AgentDetail:
    """One agent, by its name or its id."""
    return await agents.read_agent(studio.database, principal.tenant_id, name)


@put("/agents/{name:str}", guards=WRITE)
async def update_agent(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    data: JSONBody[AgentChange],
) -> AgentDetail:
    """Changes the fields that are sent."""
    return await agents.change_agent(studio.database, principal.tenant_id, name, data)


@patch("/agents/{name:str}", guards=WRITE)
async def patch_agent(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    data: JSONBody[AgentChange],
) -> AgentDetail:
    """The same as PUT."""
    return await agents.change_agent(studio.database, principal.tenant_id, name, data)


@delete("/agents/{name:str}", guards=WRITE)
async def delete_agent(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], name: FromPath[str]
) -> None:
    """Deletes an agent; schemas that begin with it keep no entry agent."""
    await agents.delete_agent(studio.database, principal.tenant_id, name)


@get("/agents/{name:str}/lifecycle", guards=READ)
async def read_lifecycle(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    session_id: FromQuery[str | None] = None,
) -> AgentLifecycle:
    """What the agent is doing in a session."""
    return await lifecycles.read_lifecycle(studio.database, principal, name, session_id)


ROUTES = [
    list_agents,
    create_agent,
    read_agent,
    update_agent,
    patch_agent,
    delete_agent,
    read_lifecycle,
]
