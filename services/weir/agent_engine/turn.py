"""One turn, told as a story: prompt, model, tools, and again, until there is an answer or nothing left to spend."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial

import structlog
from msgspec import Struct
from msgspec.structs import replace

from weir.agent_engine.budget import Budget
from weir.agent_engine.confirmations import Place, TurnGate
from weir.agent_engine.events import EventLog, TooMuchSaid
from weir.agent_engine.forwarded import NOTHING_FORWARDED, ForwardedHeaders
from weir.agent_engine.history import messages_of_sub_agent
from weir.agent_engine.marking import marked
from weir.agent_engine.metrics import (
    AGENT_STEPS,
    LLM_REQUESTS,
    LLM_RETRIES,
    LLM_SECONDS,
    LLM_TTFT_SECONDS,
    LLM_TURN_SECONDS,
    TURNS,
)
from weir.agent_engine.models.base import (
    AssistantMessage,
    Finish,
    Message,
    ModelAccess,
    ModelError,
    ModelGarbled,
    ModelRefused,
    ModelSilent,
    Prompt,
    Sampling,
    TextPart,
    ThinkingPart,
    UserMessage,
)
from weir.agent_engine.models.usage import believable, count_tokens
from weir.agent_engine.prompt import (
    LAST_STEP,
    TIME_IS_UP,
    UNUSABLE,
    compose_prompt,
    sampling_of,
    with_notes,
)
from weir.agent_engine.runaway import Watch
from weir.agent_engine.signals import ToolFailed, TurnGone
from weir.agent_engine.spending import Spending
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import briefs, messages, turns
from weir.agent_engine.tables.agents import AgentRow
from weir.agent_engine.tables.briefs import Delegate
from weir.agent_engine.tables.models import ModelRow
from weir.agent_engine.tables.turns import Ending
from weir.agent_engine.tools.arguments import mended
from weir.agent_engine.tools.base import Call
from weir.agent_engine.tools.equipment import Bench, gated_names, tools_of
from weir.agent_engine.tools.http import http_tools_named
from weir.agent_engine.tools.mcp import server_tools
from weir.agent_engine.tools.toolbox import Toolbox
from weir.agent_engine.transcript import Transcript, done_data, error_data
from weir.agent_engine.turn_clock import TurnClock
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Connection
from weir_shared.errors import WeirError
from weir_shared.sealing import SealError

# `max_steps: 0` means as many as it takes; even that ends. It bounds a turn with all its sub-agents.
MOST_STEPS = 500
# The part of its time after which a turn gets no more tools.
LATE = 0.9
# How long a chain of agents may be in which each works for the one before.
MOST_DEPTH = 5
# More entries than any context holds.
SUB_AGENT_ENTRIES = 400
# A model whose answer nobody can use is told so and asked again, so often.
ANSWER_RETRIES = 2
# For the last answer of a turn whose time is up; well below the grace after which the turn counts as lost.
LAST_WORDS_SECONDS = 20.0
NO_ANSWER = "I have used up my steps without coming to an answer."

log = structlog.get_logger(__name__)


class Errand(Struct, frozen=True, kw_only=True):
    """The task that a turn works on: how long its gates wait, and what its end means for it.

    `at_end` writes that down within the unit of work in which the turn ends: both are written, or neither.
    """

    task_id: str
    confirm_seconds: float
    at_end: "Callable[[Connection, Turn], Awaitable[None]]"


class Assignment(Struct, frozen=True, kw_only=True):
    """A turn to run: whose, in which session, by which agent, after what was said before.

    `own_access` is the model that the caller brought; it answers in place of every configured one. Neither it nor
    the forwarded headers are written anywhere.
    `instructions` and `sampling` are the caller's too, for the entry agent alone.
    """

    principal: Principal
    schema_id: str | None
    has_relations: bool
    session_id: str
    turn_id: str
    number: int
    agent: AgentRow
    model: ModelRow
    messages: list[Message]
    own_access: ModelAccess | None = None
    instructions: str = ""
    sampling: Sampling = Sampling()
    forwarded_headers: ForwardedHeaders = NOTHING_FORWARDED
    token_scale: float = 1.0
    errand: Errand | None = None


class Fault(Struct, frozen=True):
    """Why a turn failed: a code for a machine, a sentence for a person."""

    code: str
    message: str


class Turn:
    """A turn under way: what it has spent so far, and how it ended.

    A sub-agent's part is a turn within the turn above it: it has its own steps and prompt, and shares the rest.
    """

    def __init__(self, assignment: Assignment, above: "Turn | None" = None, call_id: str = "") -> None:
        self.assignment = assignment
        self.above = above
        agent = assignment.agent
        if above is None:
            self.transcript = Transcript(EventLog(assignment.number), agent.name)
            self.confirm_before = frozenset(agent.confirm_before)
        else:
            self.transcript = above.transcript.of_sub_agent(agent, call_id)
            # What an agent must not do unasked, it cannot have done by another.
            self.confirm_before = above.confirm_before | frozenset(agent.confirm_before)
        self.clock = TurnClock(agent.max_turn_duration, above.clock if above else None)
        self.messages = list(assignment.messages)
        self.started = time.monotonic()
        self.steps = 0
        self.steps_in_all = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.spending: Spending = above.spending if above else Spending()
        self.context_tokens = 0
        self.fault: Fault | None = None
        self.finish_reason = ""
        self.watch = Watch()
        scale = above.budget.scale if above else assignment.token_scale
        self.budget = Budget(agent.max_context_size, scale)
        self.prompt_estimate = 0
        self.is_cut_off = False
        self.is_over = False
        self.is_gone = False
        self.is_listening = False
        self.feedback = ""

    @property
    def events(self) -> EventLog:
        return self.transcript.events

    @property
    def agent(self) -> AgentRow:
        return self.assignment.agent

    @property
    def tenant_id(self) -> str:
        return self.assignment.principal.tenant_id

    @property
    def root(self) -> "Turn":
        """The turn that the user waits for."""
        return self if self.above is None else self.above.root

    @property
    def chain(self) -> list[AgentRow]:
        """The agents from the entry agent down to this one."""
        return [*(self.above.chain if self.above else ()), self.agent]

    def begin_step(self) -> None:
        self.steps += 1
        self.root.steps_in_all += 1

    @property
    def steps_left(self) -> int:
        own = (self.agent.max_steps or MOST_STEPS) - self.steps
        return min(own, MOST_STEPS - self.root.steps_in_all)

    @property
    def is_late(self) -> bool:
        """So little time is left that the model had better answer now."""
        return self.clock.left < (1 - LATE) * min(agent.max_turn_duration for agent in self.chain)

    @property
    def is_last_step(self) -> bool:
        return self.steps_left <= 0 or self.watch.is_lost or self.is_over

    @property
    def has_worked(self) -> bool:
        """Whether the model has answered at least once: a turn without that has nothing to tell."""
        return len(self.messages) > len(self.assignment.messages)


class Equipment(Struct, frozen=True):
    """What a turn's loop works with: its model, its tools, and the names of those that are gated, or are not there."""

    access: ModelAccess
    toolbox: Toolbox
    gated: list[str]
    unavailable: list[str]


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
    await _end(turn, studio)


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
    toolbox = Toolbox(tools, turn.transcript, partial(_keep_calls, turn, studio), parallel=is_parallel)
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
    _conclude(turn, await _ask(turn, studio, equipment))


async def _converse(turn: Turn, studio: Studio, equipment: Equipment) -> None:
    """The loop of the turn; returns when the agent has answered."""
    toolbox = equipment.toolbox
    while True:
        turn.begin_step()
        turn.watch.is_lost = turn.watch.is_lost or turn.is_late
        answer = await _ask(turn, studio, equipment)
        turn.messages.append(answer)
        if not answer.calls or turn.is_last_step:
            return _conclude(turn, answer)
        results = await toolbox.call_all(answer.calls, is_cut_off=turn.is_cut_off)
        turn.messages += results
        turn.watch.saw_step(answer.calls, results)
        await _write_step(turn, studio)
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
    await _write_step(part, studio)
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


async def _ask(turn: Turn, studio: Studio, equipment: Equipment) -> AssistantMessage:
    """The model's answer; one that nobody can use is told to the model, which is asked again.

    Not when its reader has heard some of it: nothing is said twice.
    """
    turn.feedback = ""
    for retries_left in range(ANSWER_RETRIES, -1, -1):
        said = turn.transcript.text
        try:
            answer = await _listen(turn, studio, equipment.access, _compose(turn, equipment))
            if answer.calls or answer.content.strip() or not retries_left:
                return answer
            fault = ModelSilent("it held nothing")
        except ModelGarbled as garbled:
            if not retries_left or turn.transcript.text[len(said) :].strip():
                raise
            fault = garbled
        LLM_RETRIES.labels(equipment.access.type, fault.code).inc()
        turn.feedback = UNUSABLE.format(reason=fault)
    raise AssertionError


def _compose(turn: Turn, equipment: Equipment) -> Prompt:
    """What the model is sent; on its last step it gets no tools, so that it answers."""
    offered = equipment.toolbox.definitions
    tools = [] if turn.is_last_step else offered
    last_step = LAST_STEP if turn.is_last_step and offered else ""
    system = compose_prompt(
        turn.agent,
        tools,
        ending=TIME_IS_UP if turn.is_over else last_step,
        gated=equipment.gated,
        sub_agent=turn.above is not None,
        unavailable=equipment.unavailable,
        instructions=turn.assignment.instructions,
    )
    fitted = turn.budget.fit(turn.messages, system=system, tools=tools)
    turn.prompt_estimate = fitted.estimate
    system = with_notes(
        system,
        note="\n\n".join(filter(None, (turn.watch.note, turn.feedback))),
        steps_left=turn.steps_left if tools else 0,
        is_shortened=fitted.is_shortened,
    )
    sampling = sampling_of(turn.agent, turn.assignment.sampling)
    return Prompt(system=system, messages=marked(fitted.messages), tools=tools, sampling=sampling)


async def _listen(turn: Turn, studio: Studio, access: ModelAccess, prompt: Prompt) -> AssistantMessage:
    """Tells the model's answer as it arrives; what came of a broken one is kept too."""
    asked, result = time.monotonic(), "failed"
    turn.is_listening = True
    finish, has_begun = None, False
    try:
        # What is left now: the turn's time stood still while it waited for the user.
        access = replace(access, deadline=turn.clock.deadline)
        async with aclosing(studio.client.stream(access, prompt)) as parts:
            async for part in parts:
                if not has_begun:
                    LLM_TTFT_SECONDS.observe(time.monotonic() - asked)
                    has_begun = True
                match part:
                    case TextPart(content):
                        turn.transcript.speak(content)
                    case ThinkingPart(content):
                        turn.transcript.think(content)
                    case Finish():
                        finish = believable(part)
        result = "ok"
        turn.is_listening = False
    finally:
        text = turn.transcript.end_answer()
        LLM_REQUESTS.labels(access.type, result).inc()
        LLM_SECONDS.labels(access.type).observe(time.monotonic() - asked)
    if finish is None:
        raise ModelGarbled("The model's answer has no end")
    _count_tokens(turn, access, finish)
    turn.finish_reason = finish.reason
    if not text and not finish.calls and finish.reason == "content_filter":
        raise ModelRefused("The model's provider withheld the answer")
    turn.is_cut_off = finish.reason == "length"
    return AssistantMessage(text, tuple(map(mended, finish.calls)), finish.echo)


def _count_tokens(turn: Turn, access: ModelAccess, finish: Finish) -> None:
    turn.root.input_tokens += finish.input_tokens
    turn.root.output_tokens += finish.output_tokens
    turn.spending.add(_told_model(turn), turn.agent.name, finish)
    turn.budget.learn(turn.prompt_estimate, finish.input_tokens)
    turn.context_tokens = finish.input_tokens or turn.prompt_estimate
    count_tokens(access.type, finish)


def _told_model(turn: Turn) -> str:
    """The name under which a tenant's usage is kept; what callers call their own models does not fill its table."""
    own = turn.assignment.own_access
    return turn.assignment.model.name if own is None else f"{own.type} (own key)"


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


async def _write_step(turn: Turn, studio: Studio) -> None:
    """Whatever ends the turn meanwhile, a write that has begun comes to its end: its entries are taken already."""
    await asyncio.shield(_write_entries(turn, studio))


async def _keep_calls(turn: Turn, studio: Studio) -> None:
    """Before a tool runs. Raises TurnGone when the turn was deleted or given up meanwhile: it calls nothing more."""
    await _write_step(turn, studio)
    if turn.root.is_gone:
        raise TurnGone


async def _write_entries(turn: Turn, studio: Studio) -> None:
    assignment = turn.assignment
    async with turn.transcript.writing:
        if not turn.transcript.has_unwritten:
            return
        async with studio.database.tenant(turn.tenant_id) as connection:
            entries = turn.transcript.take_unwritten()
            turn.root.is_gone = not await messages.add(
                connection, turn.tenant_id, assignment.session_id, assignment.turn_id, entries
            )


async def _end(turn: Turn, studio: Studio) -> None:
    """Writes the end down before it is told: whoever sees `done` finds the answer in the session."""
    try:
        if not await _write_end(turn, studio):
            turn.fault = turn.fault or Fault("interrupted", "The turn was given up or deleted meanwhile")
    except WeirError as fault:
        log.error("end of turn not written", session_id=turn.assignment.session_id, fault=fault.message)
        turn.fault = turn.fault or Fault(fault.code, "The answer could not be kept in the session")
    except Exception:
        # The boundary of the turn's end: nothing that was said may keep its reader and its session waiting.
        log.exception("end of turn failed", session_id=turn.assignment.session_id)
        turn.fault = Fault("internal_error", "The platform failed to keep this turn; it is logged")
        await _give_up(turn, studio)
    if turn.fault is None and (turn.transcript.text or not turn.transcript.asks_user):
        turn.events.append("message", {"content": turn.transcript.text})
    elif turn.fault is not None:
        turn.events.append("error", error_data(turn.fault.code, turn.fault.message))
    done = done_data(
        turn.assignment.session_id,
        tokens=turn.input_tokens + turn.output_tokens,
        context_tokens=turn.context_tokens,
    )
    turn.events.append("done", done)
    turn.events.end()
    TURNS.labels("failed" if turn.fault else "completed").inc()
    AGENT_STEPS.observe(turn.steps_in_all)
    LLM_TURN_SECONDS.observe(time.monotonic() - turn.started)


async def _give_up(turn: Turn, studio: Studio) -> None:
    """Frees the session of a turn whose end could not be written as it was."""
    assert turn.fault is not None
    ending = Ending(
        status="failed",
        steps=turn.steps,
        input_tokens=0,
        output_tokens=0,
        context_tokens=0,
        token_scale=1.0,
        events=0,
        spent=turn.spending.sums,
        error_code=turn.fault.code,
        error=turn.fault.message,
    )
    try:
        async with studio.database.tenant(turn.tenant_id) as connection:
            await turns.end_turn(connection, turn.tenant_id, turn.assignment.turn_id, ending, [])
    except Exception:
        # Its reader is told all the same; the session is freed by the sweep.
        log.exception("turn not given up", session_id=turn.assignment.session_id)


async def _write_end(turn: Turn, studio: Studio) -> bool:
    fault = turn.fault
    ending = Ending(
        status="failed" if fault else "completed",
        steps=turn.steps,
        input_tokens=turn.input_tokens,
        output_tokens=turn.output_tokens,
        context_tokens=turn.context_tokens,
        token_scale=turn.budget.scale,
        events=len(turn.events),
        spent=turn.spending.sums,
        error_code=fault.code if fault else None,
        error=fault.message if fault else None,
    )
    async with turn.transcript.writing, studio.database.tenant(turn.tenant_id) as connection:
        entries = turn.transcript.take_unwritten()
        is_written = await turns.end_turn(
            connection, turn.tenant_id, turn.assignment.turn_id, ending, entries
        )
        if is_written and turn.assignment.errand is not None:
            await turn.assignment.errand.at_end(connection, turn)
        return is_written
