"""Sessions as their owners and administrators see them: listed, read, resumed, deleted."""

from collections.abc import AsyncIterator
from typing import Any

from weir.agent_engine.naming import missing
from weir.agent_engine.replay import replay_latest
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import messages, sessions
from weir.agent_engine.tables.messages import MessageRow
from weir.agent_engine.tables.sessions import SessionRow
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

DEFAULT_LIMIT = 20
MOST_AT_ONCE = 100
ROLES = {"user_message": "user", "assistant_message": "assistant"}


async def list_sessions(
    database: Database,
    principal: Principal,
    *,
    agent: str | None = None,
    schema: str | None = None,
    status: str | None = None,
    limit: int = DEFAULT_LIMIT,
    offset: int = 0,
) -> SessionList:
    """Those of the caller, or of the whole tenant for an administrator."""
    limit = min(limit, MOST_AT_ONCE) if limit > 0 else DEFAULT_LIMIT
    offset = min(max(offset, 0), 2**31)
    async with database.tenant(principal.tenant_id) as connection:
        rows, total = await sessions.page(
            connection,
            principal.tenant_id,
            owner=None if principal.is_admin else principal.identity,
            agent=_filter(agent),
            schema=_filter(schema),
            status=_filter(status),
            limit=limit,
            offset=offset,
        )
    return SessionList(
        sessions=[SessionSummary(**_summary(row)) for row in rows], total=total, limit=limit, offset=offset
    )


async def read_session(database: Database, principal: Principal, id: str) -> SessionDetail:
    """Raises NotFound, also for a session of somebody else."""
    async with database.tenant(principal.tenant_id) as connection:
        session = await find_session(connection, principal, id)
        rows = await messages.of_session(connection, principal.tenant_id, session.id)
    return SessionDetail(
        **_summary(session),
        messages=[_message(row) for row in rows if row.event_type in ROLES],
        events=[_event(row) for row in rows],
    )


async def delete_session(studio: Studio, principal: Principal, id: str) -> None:
    """Stops the turn that runs, and takes everything that was said along."""
    async with studio.database.tenant(principal.tenant_id) as connection:
        session = await find_session(connection, principal, id)
    await studio.running.stop((principal.tenant_id, session.id))
    async with studio.database.tenant(principal.tenant_id) as connection:
        await sessions.remove(connection, principal.tenant_id, session.id)


async def follow_session(
    studio: Studio, principal: Principal, id: str, last_event_id: str
) -> AsyncIterator[bytes]:
    """The events of the session's latest turn that come after the one seen last.

    From memory where the turn runs or has lately ended; else from the ledger, which has no deltas.
    """
    async with studio.database.tenant(principal.tenant_id) as connection:
        session = await find_session(connection, principal, id)
        events = studio.running.log_of((principal.tenant_id, session.id))
        if events is not None:
            return events.follow(events.position_after(last_event_id))
        events = await replay_latest(connection, principal.tenant_id, session.id)
    return events.follow()


async def find_session(connection: Connection, principal: Principal, id: str) -> SessionRow:
    """Raises NotFound for what is not there, or not the caller's to see."""
    session_id = parse_uuid(id)
    session = await sessions.find(connection, principal.tenant_id, session_id) if session_id else None
    if session is None or not (principal.is_admin or session.owner == principal.identity):
        raise missing("session", id)
    return session


def _filter(text: str | None) -> str | None:
    """A NUL is in no name, and Postgres takes none."""
    return text.replace("\0", "\ufffd") if text else None


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
        payload=row.payload,
        created_at=rfc3339(row.created_at),
    )
