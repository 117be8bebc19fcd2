"""Confirmations: a turn asks and waits for somebody's word, and whoever may answers through any replica."""

import asyncio
import secrets
from collections.abc import Callable, Sequence

from msgspec import Struct

from weir.agent_engine.metrics import TASK_TRANSITIONS
from weir.agent_engine.sessions import find_session, topic_of
from weir.agent_engine.signals import TurnGone
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import confirmations, tasks
from weir.agent_engine.tables.confirmations import NewConfirmation
from weir.agent_engine.tools.base import Call
from weir.agent_engine.turn_clock import TurnClock
from weir.agent_engine.wire.confirmations import Response
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Connection
from weir_shared.errors import Conflict, NotFound

APPROVALS = frozenset({"approve", "approved", "yes", "y", "ok", "true", "confirm", "allow"})
# For notices that were lost. It must stay well below the grace of a turn whose process is lost.
LOOK_SECONDS = 2.0
QUESTION_CHARACTERS = 4000

_ANSWERED = ("approved", "denied")


class NothingToAnswer(NotFound):
    def __init__(self, call_id: str) -> None:
        super().__init__(f"No confirmation '{call_id[:100]}' waits in this session")


class AlreadyAnswered(Conflict):
    def __init__(self, call_id: str) -> None:
        super().__init__(f"The confirmation '{call_id[:100]}' has been answered already")


class Place(Struct, frozen=True, kw_only=True):
    """Where a gate stands, and how long it is kept open.

    The task of a turn that works on one waits for input meanwhile.
    """

    tenant_id: str
    session_id: str
    turn_id: str
    agent: str
    seconds: float
    is_task: bool = False


class TurnGate:
    """The gate of one turn, or of one sub-agent in it; every call that it holds waits for its own answer."""

    def __init__(self, place: Place, clock: TurnClock, asked: Callable[[Call], None], studio: Studio) -> None:
        self._place = place
        self._clock = clock
        self._asked = asked
        self._studio = studio

    def new_call_id(self) -> str:
        """Nobody can guess it, and it is never used again: the ids that models make are neither."""
        return f"conf_{secrets.token_hex(16)}"

    async def ask(self, call: Call) -> str:
        """Asks and waits: approved, denied or expired. Raises TurnGone.

        The turn's clock stands still meanwhile.
        """
        with self._clock.paused():
            # Before the row is written, so that no answer comes between looking and waiting.
            async with self._studio.doorbell.awaiting(topic_of(self._place.session_id)) as notice:
                await self._open(call)
                self._asked(call)
                while True:
                    status, seconds = await self._look(call.call_id)
                    if status != "pending":
                        return status
                    notice.clear()
                    await _wait(notice, min(LOOK_SECONDS, max(0.01, seconds)))

    async def _open(self, call: Call) -> None:
        new = NewConfirmation(
            call_id=call.call_id,
            session_id=self._place.session_id,
            turn_id=self._place.turn_id,
            agent=self._place.agent,
            tool=call.tool,
            seconds=self._place.seconds,
        )
        tenant_id, waits = self._place.tenant_id, False
        async with self._studio.database.tenant(tenant_id) as connection:
            if not await confirmations.add(connection, tenant_id, new):
                raise TurnGone
            if self._place.is_task:
                question = (
                    f"May {self._place.agent} call {call.tool} with {call.written[:QUESTION_CHARACTERS]}?"
                )
                question = question.replace("\0", "\ufffd")
                waits = await tasks.begin_waiting(connection, tenant_id, self._place.turn_id, question)
        if waits:
            TASK_TRANSITIONS.labels("needs_input").inc()

    async def _look(self, call_id: str) -> tuple[str, float]:
        tenant_id, goes_on = self._place.tenant_id, False
        async with self._studio.database.tenant(tenant_id) as connection:
            found = await confirmations.look(
                connection, tenant_id, call_id, turn_seconds_left=self._clock.left
            )
            if self._place.is_task and found is not None and found.status != "pending":
                goes_on = await tasks.end_waiting(connection, tenant_id, self._place.turn_id)
        if goes_on:
            TASK_TRANSITIONS.labels("in_progress").inc()
        if found is None:
            raise TurnGone
        return found.status, found.seconds_left


async def respond(studio: Studio, principal: Principal, session_id: str, response: Response) -> None:
    """Takes the answer to a confirmation, once and while it waits.

    Raises NotFound: for a session that is not the caller's, for a call of another session, for one that waits no
    longer; and AlreadyAnswered.
    """
    tenant_id, call_id = principal.tenant_id, response.call_id
    async with studio.database.tenant(tenant_id) as connection:
        session = await find_session(connection, principal, session_id)
        taken = await answer(connection, principal, session.id, call_id, response.answers)
        status = None if taken else await confirmations.status_of(connection, tenant_id, session.id, call_id)
    if status in _ANSWERED:
        raise AlreadyAnswered(call_id)
    if not taken:
        raise NothingToAnswer(call_id)
    await studio.doorbell.notify(topic_of(session.id))


async def answer(
    connection: Connection, principal: Principal, session_id: str, call_id: str, answers: Sequence[str]
) -> bool:
    """Writes the answer down; False when nothing waits for it. Whoever waits is to be notified afterwards."""
    return await confirmations.answer(
        connection,
        principal.tenant_id,
        session_id,
        call_id,
        status="approved" if approves(answers) else "denied",
        answered_by=principal.identity,
    )


def approves(answers: Sequence[str]) -> bool:
    """Every word must approve: silence, doubt and anything unknown refuse."""
    return bool(answers) and all(answer.strip().casefold() in APPROVALS for answer in answers)


async def _wait(notice: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await notice.wait()
    except TimeoutError:
        return
