"""One turn: what it was given, what it has said and spent so far."""

import time
from collections.abc import Awaitable, Callable

from msgspec import Struct

from weir.agent_engine.budget import Budget
from weir.agent_engine.events import EventLog
from weir.agent_engine.forwarded import NOTHING_FORWARDED, ForwardedHeaders
from weir.agent_engine.models.base import (
    Message,
    ModelAccess,
    Sampling,
)
from weir.agent_engine.runaway import Watch
from weir.agent_engine.spending import Spending
from weir.agent_engine.tables.agents import AgentRow
from weir.agent_engine.tables.models import ModelRow
from weir.agent_engine.tools.toolbox import Toolbox
from weir.agent_engine.transcript import Transcript
from weir.agent_engine.turn_clock import TurnClock
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Connection

# `max_steps: 0` means as many as it takes; even that ends. It bounds a turn with all its sub-agents.
MOST_STEPS = 500
# The part of its time after which a turn gets no more tools.
LATE = 0.9


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
