"""What was said and done in sessions, entry by entry."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from weir_shared.db.pool import Connection


class Entry(Struct, frozen=True, kw_only=True):
    """One entry to write; `sequence` counts within its turn, `event` is the last event that it stands for.

    A sub-agent's entries carry its id and the call that it works for.
    """

    sequence: int
    event_type: str
    agent: str
    payload: dict[str, Any]
    call_id: str | None = None
    sub_agent_id: str | None = None
    parent_call_id: str | None = None
    event: int | None = None


class MessageRow(Struct, frozen=True, kw_only=True):
    id: int
    turn_id: str
    event_type: str
    agent: str
    call_id: str | None
    payload: dict[str, Any]
    created_at: datetime
    sub_agent_id: str | None = None
    parent_call_id: str | None = None
    event: int | None = None


async def add(
    connection: Connection, tenant_id: str, session_id: str, turn_id: str, entries: Sequence[Entry]
) -> bool:
    """Writes entries of a turn, at least one; false and nothing when the turn was deleted or given up meanwhile."""
    done = await connection.execute(
        """
        insert into messages (
            tenant_id, session_id, turn_id, sequence, event_type, agent, call_id, payload, sub_agent_id,
            parent_call_id, event
        )
        select $1, $2, turns.id, entry.*
        from turns, unnest(
            $4::int[], $5::text[], $6::text[], $7::text[], $8::jsonb[], $9::uuid[], $10::text[], $11::int[]
        ) as entry
        where turns.tenant_id = $1 and turns.id = $3 and turns.status = 'running'
        """,
        tenant_id,
        session_id,
        turn_id,
        *columns(entries),
    )
    return done != "INSERT 0 0"


async def of_session(
    connection: Connection,
    tenant_id: str,
    session_id: str,
    *,
    limit: int = 10_000,
    with_sub_agents: bool = True,
) -> list[MessageRow]:
    """The newest entries of a session, oldest first."""
    rows = await connection.fetch(
        """
        select id, turn_id, event_type, agent, call_id, payload, created_at, sub_agent_id, parent_call_id,
               event
        from messages
        where tenant_id = $1 and session_id = $2 and ($4 or sub_agent_id is null)
        order by id desc
        limit $3
        """,
        tenant_id,
        session_id,
        limit,
        with_sub_agents,
    )
    return [MessageRow(**dict(row)) for row in reversed(rows)]


async def of_sub_agent(
    connection: Connection, tenant_id: str, session_id: str, agent_id: str, *, limit: int
) -> list[MessageRow]:
    """The newest entries of one sub-agent in a session, oldest first."""
    rows = await connection.fetch(
        """
        select id, turn_id, event_type, agent, call_id, payload, created_at, sub_agent_id, parent_call_id
        from messages
        where tenant_id = $1 and session_id = $2 and sub_agent_id = $3
        order by id desc
        limit $4
        """,
        tenant_id,
        session_id,
        agent_id,
        limit,
    )
    return [MessageRow(**dict(row)) for row in reversed(rows)]


async def of_turn(connection: Connection, tenant_id: str, turn_id: str) -> list[MessageRow]:
    """What the turn's own agent said and did, and what its sub-agents asked and showed."""
    rows = await connection.fetch(
        """
        select id, turn_id, event_type, agent, call_id, payload, created_at, sub_agent_id, parent_call_id,
               event
        from messages
        where tenant_id = $1 and turn_id = $2
              and (sub_agent_id is null or event_type in ('confirmation', 'structured_output'))
        order by sequence
        """,
        tenant_id,
        turn_id,
    )
    return [MessageRow(**dict(row)) for row in rows]


def columns(entries: Sequence[Entry]) -> tuple[list[Any], ...]:
    """The entries as one array a column, in the order in which the statements unnest them."""
    return (
        [entry.sequence for entry in entries],
        [entry.event_type for entry in entries],
        [entry.agent for entry in entries],
        [entry.call_id for entry in entries],
        [entry.payload for entry in entries],
        [entry.sub_agent_id for entry in entries],
        [entry.parent_call_id for entry in entries],
        [entry.event for entry in entries],
    )
