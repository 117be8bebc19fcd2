"""A turn's entries and its end, written down."""

import asyncio
import time

import structlog

from weir.agent_engine.metrics import (
    AGENT_STEPS,
    LLM_TURN_SECONDS,
    TURNS,
)
from weir.agent_engine.signals import TurnGone
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import messages, turns
from weir.agent_engine.tables.turns import Ending
from weir.agent_engine.transcript import done_data, error_data
from weir.agent_engine.turn import Fault, Turn
from weir_shared.errors import WeirError

log = structlog.get_logger(__name__)


async def write_step(turn: Turn, studio: Studio) -> None:
    """Whatever ends the turn meanwhile, a write that has begun comes to its end: its entries are taken already."""
    await asyncio.shield(_write_entries(turn, studio))


async def keep_calls(turn: Turn, studio: Studio) -> None:
    """Before a tool runs. Raises TurnGone when the turn was deleted or given up meanwhile: it calls nothing more."""
    await write_step(turn, studio)
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


async def end(turn: Turn, studio: Studio) -> None:
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
