"""/api/v1/sessions"""

from typing import Annotated

from litestar import delete, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, HeaderParameter
from litestar.response import Stream

from weir.agent_engine import sessions
from weir.agent_engine.routes.streams import event_stream
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.sessions import SessionDetail, SessionList
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal

GUARDS = [requires_scope("chat")]


@get("/sessions", guards=GUARDS)
async def list_sessions(
    *,
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    agent: FromQuery[str | None] = None,
    schema: FromQuery[str | None] = None,
    status: FromQuery[str | None] = None,
    limit: FromQuery[int] = sessions.DEFAULT_LIMIT,
    offset: FromQuery[int] = 0,
) -> SessionList:
    """The caller's sessions, last used first; an administrator sees the tenant's."""
    return await sessions.list_sessions(
        studio.database,
        principal,
        agent=agent,
        schema=schema,
        status=status,
        limit=limit,
        offset=offset,
    )


@get("/sessions/{session_id:str}", guards=GUARDS)
async def read_session(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], session_id: FromPath[str]
) -> SessionDetail:
    """One session with everything that was said and done in it."""
    return await sessions.read_session(studio.database, principal, session_id)


@get("/sessions/{session_id:str}/events", guards=GUARDS)
async def follow_session(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    session_id: FromPath[str],
    last_event_id: Annotated[str, HeaderParameter(name="Last-Event-ID")] = "",
) -> Stream:
    """The events of the session's latest turn, from the one after `Last-Event-ID` on."""
    events = await sessions.follow_session(studio, principal, session_id, last_event_id)
    return event_stream(events, session_id)


@delete("/sessions/{session_id:str}", guards=GUARDS)
async def delete_session(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], session_id: FromPath[str]
) -> None:
    """Stops the session's turn and deletes the session with its history."""
    await sessions.delete_session(studio, principal, session_id)


ROUTES = [list_sessions, read_session, follow_session, delete_session]
