"""A turn out of the ledger, for readers who come when no memory holds its events any more."""

from typing import Any

from weir.agent_engine.events import EventLog, frame_of
from weir.agent_engine.tables import messages
from weir.agent_engine.tables.messages import MessageRow
from weir.agent_engine.tables.turns import TurnRow
from weir.agent_engine.transcript import call_data, done_data, error_data, result_data
from weir_shared.db.pool import Connection


async def replay_turn(
    connection: Connection, tenant_id: str, session_id: str, turn: TurnRow, *, after: int
) -> EventLog:
    """The turn as far as it is written, from the event after the number given, each under its own number.

    What a step said is one delta. Of a step that the reader has seen in part it tells no rest: `message` has it.
    Of a turn that still runs it tells what is there, and no `done`.
    """
    rows = await messages.of_turn(connection, tenant_id, turn.id)
    log = EventLog(turn.number)
    log.add([frame_of(turn.number, *event) for event in _events_of(turn, rows, session_id, after)])
    log.end()
    return log


def _events_of(
    turn: TurnRow, rows: list[MessageRow], session_id: str, after: int
) -> list[tuple[int, str, dict[str, Any]]]:
    found: list[tuple[int, str, dict[str, Any]]] = []
    last = 0
    for row in sorted(rows, key=lambda row: (row.event or 0, row.id)):
        event = _event_of(row)
        if event is None:
            continue
        begins_at, last = last + 1, max(row.event or 0, last + 1)
        is_partly_seen = begins_at <= after < last and event[0] in ("message_delta", "thinking")
        if last > after and not is_partly_seen:
            found.append((last, *event))
    last = max(turn.events or 0, last)
    if turn.status == "running":
        return found
    # Of a turn that was interrupted the reader may have seen more than was written.
    last = last if turn.events is not None else max(last, after)
    if turn.status == "completed":
        said = [row.payload["content"] for row in rows if row.event_type == "assistant_message"]
        # A turn may end with a form and no words.
        if said:
            last += 1
            found.append((last, "message", {"content": "".join(said)}))
    else:
        fault = error_data(turn.error_code or "failed", turn.error or "The turn failed")
        last += 1
        found.append((last, "error", fault))
    done = done_data(
        session_id, tokens=turn.input_tokens + turn.output_tokens, context_tokens=turn.context_tokens
    )
    found.append((last + 1, "done", done))
    return [event for event in found if event[0] > after]


def _event_of(row: MessageRow) -> tuple[str, dict[str, Any]] | None:
    payload, call_id = row.payload, row.call_id or ""
    match row.event_type:
        case "tool_call":
            return "tool_call", call_data(payload["tool"], call_id, payload["arguments"])
        case "tool_result":
            data = result_data(payload["tool"], call_id, payload["content"], has_error=payload["is_error"])
            return "tool_result", data
        case "assistant_message":
            return "message_delta", {"content": payload["content"]}
        case "reasoning":
            return "thinking", {"content": payload["content"]}
        case "confirmation" | "structured_output":
            return row.event_type, payload
        case _:
            return None
