"""One turn, told as a story: prompt, model, tools, and again, until there is an answer or nothing left to spend."""

import asyncio
import time
from contextlib import aclosing

import structlog
from msgspec import Struct

from weir.agent_engine.budget import fit
from weir.agent_engine.events import EventLog, TooMuchSaid
from weir.agent_engine.metrics import LLM_REQUESTS, LLM_TOKENS, LLM_TTFT_SECONDS, LLM_TURN_SECONDS, TURNS
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
    TextPart,
    ThinkingPart,
)
from weir.agent_engine.prompt import compose_prompt, sampling_of
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import messages, turns
from weir.agent_engine.tables.agents import AgentRow
from weir.agent_engine.tables.models import ModelRow
from weir.agent_engine.tables.turns import Ending
from weir.agent_engine.tools.builtin import builtin_tools
from weir.agent_engine.tools.toolbox import Toolbox
from weir.agent_engine.transcript import Transcript, done_data, error_data
from weir_shared.auth.principal import Principal
from weir_shared.errors import WeirError
from weir_shared.sealing import SealError

# `max_steps: 0` means as many as it takes; even that ends.
MOST_STEPS = 500
NO_ANSWER = "I have used up my steps without coming to an answer."

log = structlog.get_logger(__name__)


class Assignment(Struct, frozen=True, kw_only=True):
    """A turn to run: whose, in which session, by which agent, after what was said before."""

    principal: Principal
    session_id: str
    turn_id: str
    number: int
    agent: AgentRow
    model: ModelRow
    messages: list[Message]


class Fault(Struct, frozen=True):
    """Why a turn failed: a code for a machine, a sentence for a person."""

    code: str
    message: str


class Turn:
    """A turn under way: what it has spent so far, and how it ended."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.transcript = Transcript(EventLog(assignment.number), assignment.agent.name)
        self.messages = list(assignment.messages)
        self.started = time.monotonic()
        self.steps = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.fault: Fault | None = None

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
    def is_last_step(self) -> bool:
        return self.steps >= (self.agent.max_steps or MOST_STEPS)


async def run_turn(turn: Turn, studio: Studio) -> None:
    """Runs a turn to its end: whatever happens, it is written down and `done` is told."""
    try:
        async with asyncio.timeout(turn.agent.max_turn_duration):
            await _converse(turn, studio)
    except TimeoutError:
        turn.fault = Fault("timeout", "The turn took longer than its agent may take")
    except ModelError as fault:
        turn.fault = Fault(fault.code, str(fault))
    except TooMuchSaid:
        turn.fault = Fault("too_much_output", "The turn said more than the platform keeps of one turn")
    except WeirError as fault:
        turn.fault = Fault(fault.code, fault.message)
    except asyncio.CancelledError:
        turn.fault = Fault("stopped", "The turn was stopped")
    except Exception:
        # The boundary of the turn: its reader is told, and the log has the rest.
        log.exception("turn failed", session_id=turn.assignment.session_id)
        turn.fault = Fault("internal_error", "The platform failed at this turn; it is logged")
    await _end(turn, studio)


async def _converse(turn: Turn, studio: Studio) -> None:
    """The loop of the turn; returns when the agent has answered."""
    access = await _access(turn, studio)
    deadline = turn.started + turn.agent.max_turn_duration
    tools = builtin_tools(turn.agent.tools, studio, turn.assignment.principal, deadline=deadline)
    toolbox = Toolbox(tools, turn.transcript, parallel=turn.agent.tool_execution == "parallel")
    while True:
        turn.steps += 1
        prompt = _compose(turn, toolbox)
        answer = await _listen(turn, studio, access, prompt)
        turn.messages.append(answer)
        if not answer.calls or turn.is_last_step:
            return _conclude(turn)
        turn.messages += await toolbox.call_all(answer.calls)
        await _write_step(turn, studio)


def _compose(turn: Turn, toolbox: Toolbox) -> Prompt:
    """What the model is sent; on its last step it gets no tools, so that it answers."""
    tools = [] if turn.is_last_step else toolbox.definitions
    left_without = turn.is_last_step and bool(toolbox.definitions)
    system = compose_prompt(turn.agent, tools, last_step=left_without)
    kept = fit(turn.messages, max_tokens=turn.agent.max_context_size, system=system, tools=tools)
    return Prompt(system=system, messages=kept, tools=tools, sampling=sampling_of(turn.agent))


async def _listen(turn: Turn, studio: Studio, access: ModelAccess, prompt: Prompt) -> AssistantMessage:
    """Tells the model's answer as it arrives; what came of a broken one is kept too."""
    asked, result = time.monotonic(), "failed"
    finish = None
    try:
        async with aclosing(studio.client.stream(access, prompt)) as parts:
            async for part in parts:
                if asked:
                    LLM_TTFT_SECONDS.observe(time.monotonic() - asked)
                    asked = 0.0
                match part:
                    case TextPart(content):
                        turn.transcript.speak(content)
                    case ThinkingPart(content):
                        turn.transcript.think(content)
                    case Finish():
                        finish = part
        result = "ok"
    finally:
        text = turn.transcript.end_answer()
        LLM_REQUESTS.labels(access.type, result).inc()
    if finish is None:
        raise ModelGarbled("The model's answer has no end")
    _count_tokens(turn, access, finish)
    if not text and not finish.calls and finish.reason == "content_filter":
        raise ModelRefused("The model's provider withheld the answer")
    return AssistantMessage(text, finish.calls)


def _count_tokens(turn: Turn, access: ModelAccess, finish: Finish) -> None:
    turn.input_tokens += finish.input_tokens
    turn.output_tokens += finish.output_tokens
    LLM_TOKENS.labels(access.type, "input").inc(finish.input_tokens)
    LLM_TOKENS.labels(access.type, "output").inc(finish.output_tokens)


def _conclude(turn: Turn) -> None:
    """A turn ends with words, or it has failed."""
    if turn.transcript.text:
        return
    if turn.steps == 1 and not turn.is_last_step:
        raise ModelSilent("The model answered with nothing")
    turn.transcript.speak(NO_ANSWER)
    turn.transcript.end_answer()


async def _access(turn: Turn, studio: Studio) -> ModelAccess:
    try:
        return await studio.models.access(turn.tenant_id, turn.assignment.model)
    except SealError as fault:
        log.error("model key does not open", model=turn.assignment.model.name, fault=str(fault))
        raise ModelRefused("The model's API key cannot be opened; enter it again") from None


async def _write_step(turn: Turn, studio: Studio) -> None:
    assignment, entries = turn.assignment, turn.transcript.take_unwritten()
    async with studio.database.tenant(turn.tenant_id) as connection:
        await messages.add(connection, turn.tenant_id, assignment.session_id, assignment.turn_id, entries)


async def _end(turn: Turn, studio: Studio) -> None:
    """Writes the end down before it is told: whoever sees `done` finds the answer in the session."""
    if turn.fault is None:
        turn.events.append("message", {"content": turn.transcript.text})
    try:
        await _write_end(turn, studio)
    except WeirError as fault:
        log.error("end of turn not written", session_id=turn.assignment.session_id, fault=fault.message)
        turn.fault = turn.fault or Fault(fault.code, "The answer could not be kept in the session")
    if turn.fault is not None:
        turn.events.append("error", error_data(turn.fault.code, turn.fault.message))
    done = done_data(
        turn.assignment.session_id, input_tokens=turn.input_tokens, output_tokens=turn.output_tokens
    )
    turn.events.append("done", done)
    turn.events.end()
    TURNS.labels("failed" if turn.fault else "completed").inc()
    LLM_TURN_SECONDS.observe(time.monotonic() - turn.started)


async def _write_end(turn: Turn, studio: Studio) -> None:
    fault = turn.fault
    ending = Ending(
        status="failed" if fault else "completed",
        steps=turn.steps,
        input_tokens=turn.input_tokens,
        output_tokens=turn.output_tokens,
        error_code=fault.code if fault else None,
        error=fault.message if fault else None,
    )
    entries = turn.transcript.take_unwritten()
    async with studio.database.tenant(turn.tenant_id) as connection:
        await turns.end_turn(connection, turn.tenant_id, turn.assignment.turn_id, ending, entries)
