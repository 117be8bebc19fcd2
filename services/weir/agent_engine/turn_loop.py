"""A turn from its beginning to its end, told as a story: prompt, model, tools, and again, until there is an answer or nothing left to spend."""

import asyncio
from functools import partial

import structlog
from msgspec.structs import replace

from weir.agent_engine.confirmations import Place, TurnGate
from weir.agent_engine.events import TooMuchSaid
from weir.agent_engine.history import messages_of_sub_agent
from weir.agent_engine.models.base import (
    AssistantMessage,
    Message,
    ModelAccess,
    ModelError,
    ModelRefused,
    ModelSilent,
    Sampling,
    UserMessage,
)
from weir.agent_engine.signals import ToolFailed, TurnGone
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import briefs, messages
from weir.agent_engine.tables.briefs import Delegate
from weir.agent_engine.tools.base import Call
from weir.agent_engine.tools.equipment import Bench, gated_names, tools_of
from weir.agent_engine.tools.http import http_tools_named
from weir.agent_engine.tools.mcp import server_tools
from weir.agent_engine.tools.toolbox import Toolbox
from weir.agent_engine.turn import Assignment, Equipment, Fault, Turn
from weir.agent_engine.turn_asking import ask
from weir.agent_engine.turn_keeping import end, keep_calls, write_step
from weir_shared.errors import WeirError
from weir_shared.sealing import SealError

# How long a chain of agents may be in which each works for the one before.
MOST_DEPTH = 5
# More entries than any context holds.
SUB_AGENT_ENTRIES = 400
# For the last answer of a turn whose time is up; well below the grace after which the turn counts as lost.
LAST_WORDS_SECONDS = 20.0
NO_ANSWER = "I have used up my steps without coming to an answer."

log = structlog.get_logger(__name__)


async def run_turn(turn: Turn, studio: Studio) -> None:
    """Runs a turn to its end: whatever happens, it is written down and `done` is told."""
    try:
        await _work(turn, studio)
    except TimeoutError:
        turn.fault = Fault("timeout", "The turn took longer than its agent may take")
    except ModelError as fault:
        turn.fault = Fault(fault.code, str(fault))
    except TooMuchSaid:
        turn.fault = Fault("too_much_output", "The turn said more than the platform keeps of one turn")
    except WeirError as fault:
        turn.fault = Fault(fault.code, fault.message)
    except (asyncio.CancelledError, TurnGone):
        turn.fault = Fault("stopped", "The turn was stopped")
    except Exception:
        # The boundary of the turn: its reader is told, and the log has the rest.
        log.exception("turn failed", session_id=turn.assignment.session_id)
        turn.fault = Fault("internal_error", "The platform failed at this turn; it is logged")
    await end(turn, studio)


async def _work(turn: Turn, studio: Studio) -> None:
    """The loop of the turn within its time; when that is up in the midst of it, one last answer without tools.

    Raises TimeoutError when there is nothing to tell, or no time for that either.
    """
    equipment = None
    try:
        async with turn.clock.running():
            equipment = await _equip(turn, studio)
            await _converse(turn, studio, equipment)
    except TimeoutError:
        if equipment is None or not turn.has_worked:
            raise
        async with asyncio.timeout(LAST_WORDS_SECONDS):
            await _say_last_words(turn, studio, equipment)


async def _equip(turn: Turn, studio: Studio) -> Equipment:
    access = await _access(turn, studio)
    bench = await _bench(turn, studio)
    tools = tools_of(turn.agent, bench)
    is_parallel = turn.agent.tool_execution == "parallel"
    toolbox = Toolbox(tools, turn.transcript, partial(keep_calls, turn, studio), parallel=is_parallel)
    offered = {tool.name for tool in toolbox.definitions}
    unavailable = [name for name in turn.agent.tools if name not in offered]
    unavailable += [f"those of the MCP server {one.server.name}" for one in bench.servers if not one.is_there]
    return Equipment(access, toolbox, gated_names(tools), unavailable)


async def _say_last_words(turn: Turn, studio: Studio, equipment: Equipment) -> None:
    """Calls that were ended have that for a result, so that the model knows what it does not know."""
    last = turn.messages[-1]
    if isinstance(last, AssistantMessage):
        turn.messages += equipment.toolbox.results_of(last.calls)
    elif turn.is_listening and turn.transcript.last_answer:
        turn.transcript.speak("\n\n")
    turn.is_over = True
    turn.begin_step()
    _conclude(turn, await ask(turn, studio, equipment))


async def _converse(turn: Turn, studio: Studio, equipment: Equipment) -> None:
    """The loop of the turn; returns when the agent has answered."""
    toolbox = equipment.toolbox
    while True:
        turn.begin_step()
        turn.watch.is_lost = turn.watch.is_lost or turn.is_late
        answer = await ask(turn, studio, equipment)
        turn.messages.append(answer)
        if not answer.calls or turn.is_last_step:
            return _conclude(turn, answer)
        results = await toolbox.call_all(answer.calls, is_cut_off=turn.is_cut_off)
        turn.messages += results
        turn.watch.saw_step(answer.calls, results)
        await write_step(turn, studio)
        if turn.transcript.asks_user:
            return None


async def _bench(turn: Turn, studio: Studio) -> Bench:
    """Where the agent's tools are used; the agents that it may delegate to are looked up now."""
    delegates: list[Delegate] = []
    if turn.agent.can_spawn or turn.assignment.has_relations:
        async with studio.database.tenant(turn.tenant_id) as connection:
            delegates = await briefs.delegates(
                connection, turn.tenant_id, turn.assignment.schema_id, turn.agent.id, turn.agent.can_spawn
            )
    return Bench(
        studio=studio,
        principal=turn.assignment.principal,
        clock=turn.clock,
        transcript=turn.transcript,
        gate=_gate(turn, studio),
        confirm_before=turn.confirm_before,
        delegates=delegates,
        run_delegate=partial(_delegate, turn, studio),
        is_sub_agent=turn.above is not None,
        forwarded=turn.assignment.forwarded_headers,
        http_tools=await http_tools_named(studio, turn.tenant_id, turn.agent.tools),
        servers=await server_tools(studio, turn.tenant_id, turn.agent.mcp_servers),
        schema_id=turn.assignment.schema_id,
        session_id=turn.assignment.session_id,
        task_id=turn.assignment.errand.task_id if turn.assignment.errand else None,
        agent_name=turn.agent.name,
    )


def _gate(turn: Turn, studio: Studio) -> TurnGate:
    assignment = turn.assignment
    place = Place(
        tenant_id=turn.tenant_id,
        session_id=assignment.session_id,
        turn_id=assignment.turn_id,
        agent=turn.agent.name,
        seconds=assignment.errand.confirm_seconds if assignment.errand else studio.confirm_seconds,
        is_task=assignment.errand is not None,
    )
    return TurnGate(place, turn.clock, partial(turn.transcript.asked, assignment.session_id), studio)


async def _delegate(turn: Turn, studio: Studio, delegate: Delegate, call: Call, task: str) -> str:
    """Runs a sub-agent within the turn, to its end; its last words. Raises ToolFailed for whatever befalls it alone."""
    name = delegate.agent.name
    _check_chain(turn, delegate)
    part = Turn(await _subassignment(turn, studio, delegate, task), turn, call.call_id)
    part.transcript.receive(task)
    try:
        await _work(part, studio)
    except TimeoutError:
        raise ToolFailed(f"Agent '{name}' failed: it took longer than it may take") from None
    except ModelError as fault:
        raise ToolFailed(f"Agent '{name}' failed: {fault}") from None
    except WeirError as fault:
        raise ToolFailed(f"Agent '{name}' failed: {fault.message}") from None
    await write_step(part, studio)
    return f"Agent '{name}' completed:\n\n{part.transcript.last_answer or part.transcript.text}"


def _check_chain(turn: Turn, delegate: Delegate) -> None:
    """Raises ToolFailed for an agent that works in the chain already, and for a chain that is too long."""
    if any(agent.id == delegate.agent.id for agent in turn.chain):
        shown = " -> ".join(agent.name for agent in (*turn.chain, delegate.agent))
        raise ToolFailed(
            f"Agent '{delegate.agent.name}' waits for this answer itself: {shown} goes round in a circle"
        )
    if len(turn.chain) >= MOST_DEPTH:
        raise ToolFailed(f"At most {MOST_DEPTH} agents work for one another in a chain; do the task yourself")


async def _subassignment(turn: Turn, studio: Studio, delegate: Delegate, task: str) -> Assignment:
    """A persistent sub-agent goes on with what it did in this session; any other begins afresh."""
    agent, history = delegate.agent, list[Message]()
    if agent.lifecycle == "persistent":
        async with studio.database.tenant(turn.tenant_id) as connection:
            rows = await messages.of_sub_agent(
                connection, turn.tenant_id, turn.assignment.session_id, agent.id, limit=SUB_AGENT_ENTRIES
            )
        history = messages_of_sub_agent(rows)
    return replace(
        turn.assignment,
        agent=agent,
        model=delegate.model,
        messages=[*history, UserMessage(task)],
        instructions="",
        sampling=Sampling(),
    )


def _conclude(turn: Turn, answer: AssistantMessage) -> None:
    """A turn ends with words, or it has failed."""
    if turn.transcript.text:
        return
    if not answer.calls:
        raise ModelSilent("The model answered with nothing")
    turn.transcript.speak(NO_ANSWER)
    turn.transcript.end_answer()


async def _access(turn: Turn, studio: Studio) -> ModelAccess:
    if turn.assignment.own_access is not None:
        return turn.assignment.own_access
    try:
        return await studio.models.access(turn.tenant_id, turn.assignment.model)
    except SealError as fault:
        log.error("model key does not open", model=turn.assignment.model.name, fault=str(fault))
        raise ModelRefused("The model's API key cannot be opened; enter it again") from None
