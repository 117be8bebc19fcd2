"""A turn out of the ledger, for readers who come when no memory holds its events any more."""

from weir.agent_engine.events import EventLog
from weir.agent_engine.tables import messages, turns
from weir.agent_engine.tables.messages import MessageRow
from weir.agent_engine.tables.turns import TurnRow
from weir.agent_engine.transcript import call_data, done_data, error_data, result_data
from weir_shared.db.pool import Connection


async def replay_latest(connection: Connection, tenant_id: str, session_id: str) -> EventLog:
    """The latest turn as far as it is written: tool events, the whole message, how it ended; no deltas.

    Of a turn that still runs elsewhere it tells what is there, and no `done`.
    """
    turn = await turns.latest(connection, tenant_id, session_id)
    if turn is None:
        log = EventLog(0)
    else:
        rows = await messages.of_turn(connection, tenant_id, turn.id)
        log = _log_of(turn, rows, session_id)
    log.end()
    return log


def _log_of(turn: TurnRow, rows: list[MessageRow], session_id: str) -> EventLog:
    log = EventLog(turn.number)
    for row in rows:
        payload, call_id = row.payload, row.call_id or ""
        if row.event_type == "tool_call":
            log.append("tool_call", call_data(payload["tool"], call_id, payload["arguments"]))
        elif row.event_type == "tool_result":
            result = result_data(payload["tool"], call_id, payload["content"], has_error=payload["is_error"])
            log.append("tool_result", result)
    if turn.status == "completed":
        said = [row.payload["content"] for row in rows if row.event_type == "assistant_message"]
        log.append("message", {"content": "".join(said)})
    if turn.status == "failed":
        log.append("error", error_data(turn.error_code or "failed", turn.error or "The turn failed"))
    if turn.status != "running":
        done = done_data(session_id, input_tokens=turn.input_tokens, output_tokens=turn.output_tokens)
        log.append("done", done)
    return log
