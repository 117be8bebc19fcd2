"""What an agent is equipped with for one turn: every tool it may use, gated where its author says so."""

from collections.abc import Collection, Iterable, Sequence

import msgspec
from msgspec import Struct

from weir.agent_engine.forwarded import NOTHING_FORWARDED, ForwardedHeaders
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables.agents import AgentRow
from weir.agent_engine.tables.briefs import Delegate
from weir.agent_engine.tables.http_tools import HttpToolRow
from weir.agent_engine.tools import http, knowledge, manage_tasks, structured_output
from weir.agent_engine.tools.base import Tool
from weir.agent_engine.tools.gated import Gate, Gated
from weir.agent_engine.tools.http import HttpTool
from weir.agent_engine.tools.lake import lake_tools
from weir.agent_engine.tools.mcp import ServerTools, mcp_tools
from weir.agent_engine.tools.memory import Memory, MemoryRecall, MemoryStore
from weir.agent_engine.tools.names import BROUGHT
from weir.agent_engine.tools.spawn import GENERIC, Run, Spawn, SpawnAgent, full_name
from weir.agent_engine.tools.structured_output import StructuredOutput
from weir.agent_engine.tools.timed import Timed
from weir.agent_engine.transcript import Transcript
from weir.agent_engine.turn_clock import TurnClock
from weir.agent_engine.wire.capabilities import MemoryConfig
from weir_shared.auth.principal import Principal

MEMORY_SECONDS = 10
TASKS_SECONDS = 20


class Bench(Struct, frozen=True, kw_only=True):
    """Where the tools of one agent are used: whose authority, what time, who listens, who asks, who delegates."""

    studio: Studio
    principal: Principal
    clock: TurnClock
    transcript: Transcript
    gate: Gate
    confirm_before: frozenset[str]
    delegates: Sequence[Delegate]
    run_delegate: Run
    is_sub_agent: bool
    forwarded: ForwardedHeaders = NOTHING_FORWARDED
    http_tools: Sequence[HttpToolRow] = ()
    servers: Sequence[ServerTools] = ()
    schema_id: str | None
    session_id: str
    task_id: str | None
    """The task that the turn works on."""
    agent_name: str


def tools_of(agent: AgentRow, bench: Bench) -> list[Tool]:
    """In the order of the spec; of two tools with one name the first counts."""
    tools: dict[str, Tool] = {}
    for tool, also_known_as in (
        *_builtin(agent, bench),
        *_remembering(agent, bench),
        *_knowing(agent, bench),
        *_spawning(agent, bench),
    ):
        tools.setdefault(tool.definition.name, _gated(tool, also_known_as, bench))
    for row in bench.http_tools:
        asked = Timed(
            HttpTool(row, bench.studio, bench.principal.tenant_id), seconds=http.SECONDS + http.SLACK_SECONDS
        )
        tool = Gated(asked, bench.gate) if row.confirmation_required else _gated(asked, (), bench)
        tools.setdefault(row.name, tool)
    for tool, also_known_as in _of_servers(bench, tools.keys()):
        tools.setdefault(tool.definition.name, _gated(tool, also_known_as, bench))
    return list(tools.values())


def gated_names(tools: Iterable[Tool]) -> list[str]:
    return [tool.definition.name for tool in tools if isinstance(tool, Gated)]


def _builtin(agent: AgentRow, bench: Bench) -> list[tuple[Tool, tuple[str, ...]]]:
    tools = lake_tools(agent.tools, bench.studio, bench.principal, clock=bench.clock)
    if structured_output.NAME in agent.tools:
        shown = StructuredOutput(bench.transcript.show, forms=not bench.is_sub_agent)
        tools.append(Timed(shown, seconds=None))
    if manage_tasks.NAME in agent.tools:
        place = manage_tasks.Place(session_id=bench.session_id, task_id=bench.task_id, agent=bench.agent_name)
        managed = manage_tasks.ManageTasks(bench.studio, bench.principal, place)
        tools.append(Timed(managed, seconds=TASKS_SECONDS))
    return [(tool, ()) for tool in tools]


def _knowing(agent: AgentRow, bench: Bench) -> list[tuple[Tool, tuple[str, ...]]]:
    """For agents that name the tool, and for those that have the capability."""
    if "knowledge" not in agent.capabilities and knowledge.NAME not in agent.tools:
        return []
    tool = knowledge.KnowledgeSearch(bench.studio, bench.principal.tenant_id, agent)
    return [(Timed(tool, seconds=knowledge.SECONDS), ())]


def _remembering(agent: AgentRow, bench: Bench) -> list[tuple[Tool, tuple[str, ...]]]:
    """Those that the capability brings, or that the agent names; outside of every schema there is no memory."""
    if bench.schema_id is None:
        return []
    brought = BROUGHT["memory"] if "memory" in agent.capability_configs else ()
    memory = Memory(
        database=bench.studio.database,
        tenant_id=bench.principal.tenant_id,
        schema_id=bench.schema_id,
        owner=bench.principal.identity,
        config=msgspec.convert(agent.capability_configs.get("memory", {}), MemoryConfig),
    )
    return [
        (Timed(kind(memory), seconds=MEMORY_SECONDS), ())
        for kind in (MemoryRecall, MemoryStore)
        if kind.definition.name in (*brought, *agent.tools)
    ]


def _of_servers(bench: Bench, taken: Collection[str]) -> list[tuple[Tool, tuple[str, ...]]]:
    tenant_id = bench.principal.tenant_id
    return mcp_tools(bench.servers, bench.studio, tenant_id, bench.forwarded, taken)


def _spawning(agent: AgentRow, bench: Bench) -> list[tuple[Tool, tuple[str, ...]]]:
    """They end with the turn's own time, which is theirs too.

    The one that takes any of them goes by all their names: where one of them is gated, it is.
    """
    targets = {
        delegate.agent.name: Timed(Spawn(delegate, bench.run_delegate), seconds=None)
        for delegate in bench.delegates
    }
    tools: list[tuple[Tool, tuple[str, ...]]] = [
        (target, (full_name(name),)) for name, target in targets.items()
    ]
    if GENERIC in agent.tools and targets:
        names = (*(full_name(name) for name in targets), *(tool.definition.name for tool in targets.values()))
        tools.append((SpawnAgent(targets), names))
    return tools


def _gated(tool: Tool, also_known_as: Sequence[str], bench: Bench) -> Tool:
    names = {tool.definition.name, *also_known_as}
    return Gated(tool, bench.gate) if names & bench.confirm_before else tool
