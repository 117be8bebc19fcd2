"""What an agent is doing in a session: whether it works, how often it has, and how full its context is."""

from weir.agent_engine.agents import find_agent
from weir.agent_engine.tables import activity
from weir.agent_engine.tables.activity import Activity
from weir.agent_engine.tables.agents import AgentRow
from weir.agent_engine.wire.agents import AgentLifecycle
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Database
from weir_shared.ids import parse_uuid


async def read_lifecycle(
    database: Database, principal: Principal, name: str, session_id: str | None
) -> AgentLifecycle:
    """A session that the caller may not see is as one in which the agent did nothing. Raises NotFound."""
    async with database.tenant(principal.tenant_id) as connection:
        agent = await find_agent(connection, principal.tenant_id, name)
        if not session_id:
            return _lifecycle(agent, "no_session")
        known = parse_uuid(session_id)
        owner = None if principal.is_admin else principal.identity
        done = None
        if known is not None:
            done = await activity.find(connection, principal.tenant_id, known, agent.name, owner=owner)
    if done is None:
        return _lifecycle(agent, "idle")
    return _lifecycle(agent, _state(agent, done), done)


def _state(agent: AgentRow, done: Activity) -> str:
    if done.asks:
        return "needs_input"
    if done.waits_for_one_that_asks:
        return "blocked"
    if done.running:
        return "running"
    if agent.lifecycle != "persistent":
        return "finished"
    return "degraded" if done.failed else "ready"


def _lifecycle(agent: AgentRow, state: str, done: Activity | None = None) -> AgentLifecycle:
    # An agent that is spawned afresh each time keeps nothing between two times.
    kept = done is not None and (done.running or agent.lifecycle == "persistent")
    return AgentLifecycle(
        mode=agent.lifecycle,
        state=state,
        tasks_handled=done.completed if done else 0,
        context_tokens=done.context_tokens if done and kept else 0,
        max_context=agent.max_context_size,
    )
