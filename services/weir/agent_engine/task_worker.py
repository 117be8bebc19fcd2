"""Working on tasks: a worker claims some, each becomes a turn of its agent, and the turn's end is the task's.

A claim holds for a while and is kept as long as the worker lives. When it does not, another takes the task up in the
same session and goes on; whatever the first one would still write is refused, since its turn has been ended.
"""

import asyncio

import structlog
from msgspec.structs import replace

from weir.agent_engine import chat
from weir.agent_engine.chat import Before
from weir.agent_engine.metrics import TASK_QUEUE_DEPTH
from weir.agent_engine.models.base import UserMessage
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import briefs, sessions, task_claims, turns
from weir.agent_engine.tables.briefs import AgentBrief
from weir.agent_engine.tables.task_claims import LEASE_SECONDS, MAX_ATTEMPTS, ClaimedTask
from weir.agent_engine.tables.turns import NewTurn
from weir.agent_engine.task_steering import doom_dependents
from weir.agent_engine.tasks import TIMED_OUT, count_transitions, principal_of, text_of_task
from weir.agent_engine.turn import Assignment, Errand, Turn
from weir.agent_engine.turn_loop import run_turn
from weir_shared.db.pool import Connection, DatabaseUnavailable, UniqueViolation
from weir_shared.ids import new_id

# Of those that work; tasks that wait for a person take no place, only memory.
WORKING_AT_ONCE = 32
HELD_AT_ONCE = 500
# So many free places are worth a look while others work.
REFILL = 8
# For notices that were lost, for workers that were, and after a fault.
LOOK_SECONDS = 1.0
KEEP_SECONDS = LEASE_SECONDS / 3
BUSY_SECONDS = 5.0
# How long a person has to answer a gate of a task.
CONFIRM_SECONDS = 24 * 3600.0
# For tasks in hand when the worker ends.
LAST_SECONDS = 5.0
STATES = ("draft", "approved", "pending", "in_progress", "needs_input")
# Turns that ended for no reason of their own.
STOPPED = ("stopped", "interrupted")
GO_ON = (
    "Your work on this task was interrupted. What you had done by then stands above: go on from there, "
    "and do not do again what has been done."
)

log = structlog.get_logger(__name__)


class ClaimLost(Exception):
    """Somebody else works on the task now, or it has ended."""


class TaskUnworkable(Exception):
    """The task cannot be worked on; the message says why."""


class _Held:
    """A task in hand, its turn once that has begun, and the states into which the task came by it."""

    def __init__(self, task: ClaimedTask) -> None:
        self.task = task
        self.turn: Turn | None = None
        self.has_ended = False
        self.transitions: list[str] = []

    @property
    def waits(self) -> bool:
        return self.turn is not None and self.turn.clock.is_paused

    @property
    def seconds_left(self) -> float:
        return self.task.seconds_left if self.turn is None else max(0.0, self.turn.clock.left)


class TaskWorker:
    """The tasks that this process works on; `notice` says that there may be more."""

    def __init__(self, studio: Studio, notice: asyncio.Event) -> None:
        self._studio = studio
        self._notice = notice
        self._held: dict[str, _Held] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def look_any(self) -> None:
        """Takes what there is to do into its free places, then waits for a notice or a while."""
        self._notice.clear()
        try:
            await self._take_any()
        except Exception:
            await asyncio.sleep(LOOK_SECONDS)
            raise
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._notice.wait()
        except TimeoutError:
            return

    async def keep_any(self) -> None:
        """Keeps the claims in hand; a turn whose claim is lost is stopped."""
        held = {claim: one.seconds_left for claim, one in self._held.items()}
        if not held:
            return
        async with self._studio.database.any_tenant() as connection:
            kept = await task_claims.keep_any(connection, held)
        for claim in held.keys() - kept:
            if (lost := self._held.get(claim)) is not None:
                await self._stop(lost)

    async def count_any(self) -> None:
        async with self._studio.database.any_tenant() as connection:
            counts = await task_claims.count_any(connection)
        for status in STATES:
            TASK_QUEUE_DEPTH.labels(status).set(counts.get(status, 0))

    async def close(self) -> None:
        """Lets tasks end for a little while, then gives up what is left for others to go on with."""
        self._is_closed = True
        if not self._working:
            return
        await asyncio.wait(self._working, timeout=LAST_SECONDS)
        for held in list(self._held.values()):
            await self._stop(held)
        if self._working:
            await asyncio.wait(self._working, timeout=LAST_SECONDS)

    async def _take_any(self) -> None:
        working = sum(not one.waits for one in self._held.values())
        free = min(WORKING_AT_ONCE - working, HELD_AT_ONCE - len(self._held))
        if self._is_closed or free <= 0 or (free < REFILL and working):
            return
        async with self._studio.database.any_tenant() as connection:
            taken = await task_claims.take_any(connection, free)
        for task in taken:
            held = self._held[task.claim] = _Held(task)
            if task.former != "in_progress":
                count_transitions(["in_progress"])
            work = asyncio.create_task(self._work(held))
            self._working.add(work)
            work.add_done_callback(self._working.discard)

    async def _work(self, held: _Held) -> None:
        try:
            await self._run(held)
        except ClaimLost:
            log.info("a task is worked on by somebody else, or has ended", task=held.task.id)
        except DatabaseUnavailable as fault:
            log.warning("a task is left to its lease", task=held.task.id, fault=str(fault))
        except Exception:
            # The boundary of the work on one task: others go on, and this one is tried again when its claim ends.
            log.exception("work on a task failed", task=held.task.id)
        finally:
            del self._held[held.task.claim]
            count_transitions(held.transitions)
            self._notice.set()

    async def _run(self, held: _Held) -> None:
        try:
            work = await self._begin(held)
        except TaskUnworkable as reason:
            await self._fail(held, str(reason))
            return
        except UniqueViolation:
            await self._release(held, BUSY_SECONDS)
            return
        await asyncio.wait([work])
        fault = held.turn.fault if held.turn else None
        if held.has_ended:
            return
        if fault is None or fault.code in STOPPED:
            await self._release(held, 0)
        elif fault.code == DatabaseUnavailable.code:
            await self._release(held, BUSY_SECONDS, counts=True)
        else:
            await self._fail(held, fault.message)

    async def _begin(self, held: _Held) -> asyncio.Task[None]:
        """Opens the turn in which the task is worked on, and starts it.

        Raises TaskUnworkable, ClaimLost, and UniqueViolation while another turn runs in its session.
        """
        task, studio = held.task, self._studio
        if task.attempts > MAX_ATTEMPTS:
            raise TaskUnworkable(f"Work on the task broke off {MAX_ATTEMPTS} times")
        if task.seconds_left < 1:
            raise TaskUnworkable(TIMED_OUT)
        principal = principal_of(task.tenant_id, task.owner, task.scopes)
        async with studio.database.tenant(task.tenant_id) as connection:
            if task.turn_id is not None:
                await task_claims.fail_former_turn(connection, task)
            brief = (
                await briefs.of_agent(connection, task.tenant_id, task.agent_id) if task.agent_id else None
            )
            if brief is None:
                raise TaskUnworkable(f"There is no agent '{task.agent}' any more")
            before = await self._before(connection, task)
            new = _new_turn(studio, task, brief)
            number = await turns.open_turn(connection, task.tenant_id, new)
            if not await task_claims.begin_turn(connection, task, new.session_id, new.id):
                raise ClaimLost
        errand = Errand(
            task_id=task.id,
            confirm_seconds=CONFIRM_SECONDS,
            at_end=lambda connection, turn: self._apply(connection, held, turn),
        )
        assignment = Assignment(
            principal=principal,
            schema_id=brief.schema_id,
            has_relations=brief.has_relations,
            session_id=new.session_id,
            turn_id=new.id,
            number=number,
            # The task has a time of its own, whatever its agent may take for an answer.
            agent=replace(brief.agent, max_turn_duration=new.seconds),
            model=brief.model,
            messages=[*before.messages, UserMessage(new.message)],
            token_scale=before.token_scale,
            errand=errand,
        )
        turn = held.turn = Turn(assignment)
        return studio.running.start((task.tenant_id, new.session_id), turn.events, run_turn(turn, studio))

    async def _before(self, connection: Connection, task: ClaimedTask) -> Before:
        if task.session_id is None:
            return Before([])
        session = await sessions.lock(connection, task.tenant_id, task.session_id)
        if session is None:
            raise ClaimLost
        return await chat.said_before(connection, task.tenant_id, session)

    async def _apply(self, connection: Connection, held: _Held, turn: Turn) -> None:
        """What the end of the turn means for its task, written with it; nothing when the claim is lost."""
        task, fault, status = held.task, turn.fault, ""
        held.has_ended = True
        if fault is None and turn.transcript.asks_user:
            question = _clean(turn.transcript.text) or "It has shown a form: see the session's events"
            if await task_claims.park(connection, task, question, held.seconds_left):
                status = "needs_input"
        elif fault is None:
            if await task_claims.complete(connection, task, _clean(turn.transcript.text)):
                status = "completed"
        elif fault.code in STOPPED or fault.code == DatabaseUnavailable.code:
            await task_claims.release(
                connection,
                task,
                seconds_left=held.seconds_left,
                after_seconds=0,
                counts=fault.code not in STOPPED,
            )
        else:
            error = TIMED_OUT if fault.code == "timeout" else fault.message
            held.transitions += await _fail(connection, task, error)
        if status:
            held.transitions.append(status)

    async def _fail(self, held: _Held, error: str) -> None:
        async with self._studio.database.tenant(held.task.tenant_id) as connection:
            transitions = await _fail(connection, held.task, error)
        held.transitions += transitions

    async def _release(self, held: _Held, after_seconds: float, *, counts: bool = False) -> None:
        async with self._studio.database.tenant(held.task.tenant_id) as connection:
            await task_claims.release(
                connection,
                held.task,
                seconds_left=held.seconds_left,
                after_seconds=after_seconds,
                counts=counts,
            )

    async def _stop(self, held: _Held) -> None:
        if held.turn is not None:
            await self._studio.running.stop((held.task.tenant_id, held.turn.assignment.session_id))


async def _fail(connection: Connection, task: ClaimedTask, error: str) -> list[str]:
    """The states that come of it."""
    if not await task_claims.fail(connection, task, _clean(error)):
        return []
    doomed = await doom_dependents(connection, task.tenant_id, task.id)
    return ["failed", *("cancelled" for _ in doomed)]


def _new_turn(studio: Studio, task: ClaimedTask, brief: AgentBrief) -> NewTurn:
    message = task.message
    if message is None and task.session_id is not None:
        message = GO_ON
    return NewTurn(
        id=new_id(),
        session_id=task.session_id or new_id(),
        owner=task.owner,
        schema_id=brief.schema_id,
        schema_name=brief.schema_name,
        agent=brief.agent.name,
        title=task.title[: chat.TITLE_CHARACTERS],
        message=message or text_of_task(task.title, task.description, task.acceptance_criteria),
        seconds=max(1, int(task.seconds_left)),
        replica=studio.elsewhere.replica_id,
    )


def _clean(text: str) -> str:
    """Postgres keeps no NUL."""
    return text.replace("\0", "\ufffd")
