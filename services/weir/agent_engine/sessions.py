"""Sessions as their owners and administrators see them: listed, read, resumed, deleted."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from msgspec.structs import replace

from weir.agent_engine.elsewhere import Letter
from weir.agent_engine.events import EventLog, is_end, last_number, seen_of
from weir.agent_engine.naming import missing
from weir.agent_engine.replay import replay_turn
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import messages, sessions, turns
from weir.agent_engine.tables.messages import MessageRow
from weir.agent_engine.tables.sessions import SessionFilter, SessionRow
from weir.agent_engine.tables.turns import TurnRow
from weir.agent_engine.wire.sessions import (
    SessionDetail,
    SessionEvent,
    SessionList,
    SessionMessage,
    SessionSummary,
)
from weir_shared.auth.principal import Principal
from weir_shared.clock import rfc3339
from weir_shared.db.pool import Connection, Database
from weir_shared.ids import parse_uuid
from weir_shared.web.filters import moment_of, text_of

DEFAULT_LIMIT = 20
MOST_AT_ONCE = 100
ROLES = {"user_message": "user", "assistant_message": "assistant"}


async def list_sessions(
    database: Database, principal: Principal, wanted: SessionFilter, *, limit: int, offset: int
) -> SessionList:
    """Those of the caller, or of the whole tenant for an administrator; only the latter ask for a user's."""
    if not principal.is_admin:
        wanted = replace(wanted, owner=principal.identity, user_sub=None)
    async with database.tenant(principal.tenant_id) as connection:
        rows, total = await sessions.page(connection, principal.tenant_id, wanted, limit=limit, offset=offset)
    return SessionList(
        sessions=[summary_of(row) for row in rows],
        total=total,
        limit=limit,
        offset=offset,
        page=offset // limit + 1,
        per_page=limit,
        total_pages=-(-total // limit),
    )


def bounds(limit: int, offset: int, page: int | None, per_page: int | None) -> tuple[int, int]:
    """Limit and offset, which may be said as a page and its size."""
    limit = limit if per_page is None else per_page
    limit = min(limit, MOST_AT_ONCE) if limit > 0 else DEFAULT_LIMIT
    if page is not None:
        offset = (page - 1) * limit
    return limit, min(max(offset, 0), 2**31)


def filter_of(
    *,
    agent: str | None,
    schema: str | None,
    status: str | None,
    user_sub: str | None,
    begun_from: str | None,
    begun_to: str | None,
) -> SessionFilter:
    """The filter that a caller wrote. Raises ValidationFailed for a moment that is none."""
    return SessionFilter(
        agent=text_of(agent),
        schema=text_of(schema),
        status=text_of(status),
        user_sub=text_of(user_sub),
        begun_from=moment_of("from", begun_from),
        begun_to=moment_of("to", begun_to, ends=True),
    )


async def read_events(database: Database, principal: Principal, id: str) -> list[SessionEvent]:
    """Everything that was said and done in a session, oldest first. Raises NotFound."""
    async with database.tenant(principal.tenant_id) as connection:
        session = await find_session(connection, principal, id)
        rows = await messages.of_session(connection, principal.tenant_id, session.id)
    return [_event(row) for row in rows]


async def read_session(database: Database, principal: Principal, id: str) -> SessionDetail:
    """Raises NotFound, also for a session of somebody else."""
    async with database.tenant(principal.tenant_id) as connection:
        session = await find_session(connection, principal, id)
        rows = await messages.of_session(connection, principal.tenant_id, session.id)
    return SessionDetail(
        **_summary(session),
        messages=[_message(row) for row in rows if row.event_type in ROLES and row.sub_agent_id is None],
        events=[_event(row) for row in rows],
    )


async def delete_session(studio: Studio, principal: Principal, id: str) -> None:
    """Stops the turn that runs, wherever it does, and takes everything that was said along."""
    tenant_id = principal.tenant_id
    async with studio.database.tenant(tenant_id) as connection:
        session = await find_session(connection, principal, id)
        turn = await turns.latest(connection, tenant_id, session.id)
    await _stop(studio, tenant_id, session.id, turn)
    async with studio.database.tenant(tenant_id) as connection:
        await sessions.remove(connection, tenant_id, session.id)
    await studio.doorbell.notify(topic_of(session.id))


async def stop_turn(studio: Studio, tenant_id: str, session_id: str, turn_id: str) -> None:
    """Stops the turn, wherever it runs; nothing when it is not the session's latest."""
    async with studio.database.tenant(tenant_id) as connection:
        turn = await turns.latest(connection, tenant_id, session_id)
    if turn is not None and turn.id == turn_id and not turn.is_lost:
        await _stop(studio, tenant_id, session_id, turn)


async def _stop(studio: Studio, tenant_id: str, session_id: str, turn: TurnRow | None) -> None:
    if turn is not None and turn.status == "running" and _runs_elsewhere(studio, turn):
        await studio.elsewhere.stop(_letter("stop", tenant_id, session_id, turn), turn.replica or "")
    await studio.running.stop((tenant_id, session_id))


def topic_of(session_id: str) -> str:
    """What whoever waits for something in a session listens to."""
    return f"session:{session_id}"


async def follow_session(
    studio: Studio, principal: Principal, id: str, last_event_id: str
) -> AsyncIterator[bytes]:
    """The events of the session's latest turn that come after the one seen last.

    From memory where the turn runs or has lately ended, from there through a feed where it is another
    replica, else from the ledger, which has no single deltas.
    """
    tenant_id = principal.tenant_id
    async with studio.database.tenant(tenant_id) as connection:
        session = await find_session(connection, principal, id)
        turn = await turns.latest(connection, tenant_id, session.id)
    if turn is None:
        nothing = EventLog(0)
        nothing.end()
        return nothing.follow()
    events = studio.running.log_of((tenant_id, session.id))
    if events is not None and events.turn_number >= turn.number:
        return events.follow(events.position_after(last_event_id))
    return _follow_elsewhere(studio, tenant_id, session.id, turn, seen_of(turn.number, last_event_id))


async def _follow_elsewhere(
    studio: Studio, tenant_id: str, session_id: str, turn: TurnRow, after: int
) -> AsyncGenerator[bytes, None]:
    """What another replica tells of the turn, then what the ledger has beyond that."""
    told = after
    # A lost turn is soon given up by the sweep; until then its reader waits like any other.
    if turn.status == "running" or (after and _runs_elsewhere(studio, turn)):
        letter = _letter("tell", tenant_id, session_id, turn)
        following = studio.elsewhere.follow(letter, turn.replica or "", after)
        async with aclosing(following) as parts:
            async for part in parts:
                yield part
                told = last_number(part) or told
                if is_end(part):
                    return
    async with studio.database.tenant(tenant_id) as connection:
        ended = await turns.latest(connection, tenant_id, session_id)
        if ended is None or ended.number != turn.number:
            return
        rest = await replay_turn(connection, tenant_id, session_id, ended, after=told)
    async for part in rest.follow():
        yield part


def _runs_elsewhere(studio: Studio, turn: TurnRow) -> bool:
    return turn.replica is not None and turn.replica != studio.elsewhere.replica_id


def _letter(wish: str, tenant_id: str, session_id: str, turn: TurnRow) -> Letter:
    return Letter(wish=wish, tenant_id=tenant_id, session_id=session_id, number=turn.number)


async def find_session(connection: Connection, principal: Principal, id: str) -> SessionRow:
    """Raises NotFound for what is not there, or not the caller's to see."""
    session_id = parse_uuid(id)
    session = await sessions.find(connection, principal.tenant_id, session_id) if session_id else None
    if session is None or not (principal.is_admin or session.owner == principal.identity):
        raise missing("session", id)
    return session


def summary_of(row: SessionRow) -> SessionSummary:
    return SessionSummary(**_summary(row))


def _summary(row: SessionRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "agent": row.agent,
        "created_at": rfc3339(row.created_at),
        "message_count": row.message_count,
        "schema": row.schema_name,
        "schema_id": row.schema_id,
        "user_sub": row.owner.partition(":")[2],
        "title": row.title,
        "status": row.status,
        "updated_at": rfc3339(row.updated_at),
        "metadata": row.metadata,
    }


def _message(row: MessageRow) -> SessionMessage:
    return SessionMessage(
        id=row.id,
        role=ROLES[row.event_type],
        content=str(row.payload["content"]),
        created_at=rfc3339(row.created_at),
    )


def _event(row: MessageRow) -> SessionEvent:
    return SessionEvent(
        id=row.id,
        event_type=row.event_type,
        agent=row.agent,
        call_id=row.call_id,
        parent_call_id=row.parent_call_id,
        payload=row.payload,
        created_at=rfc3339(row.created_at),
    )
