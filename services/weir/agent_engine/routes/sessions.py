"""/api/v1/sessions"""

from typing import Annotated

from litestar import delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody, QueryParameter
from litestar.response import Stream

from weir.agent_engine import confirmations, session_keeping, sessions
from weir.agent_engine.routes.streams import STREAMED, event_stream
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.confirmations import Accepted, Response
from weir.agent_engine.wire.sessions import (
    NewSession,
    SessionChange,
    SessionDetail,
    SessionEvent,
    SessionList,
    SessionSummary,
)
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
    user_sub: FromQuery[str | None] = None,
    begun_from: Annotated[str | None, QueryParameter(name="from")] = None,
    begun_to: Annotated[str | None, QueryParameter(name="to")] = None,
    limit: FromQuery[int] = sessions.DEFAULT_LIMIT,
    offset: FromQuery[int] = 0,
    page: FromQuery[int | None] = None,
    per_page: FromQuery[int | None] = None,
) -> SessionList:
    """The caller's sessions, last used first; an administrator sees the tenant's.

    `from` and `to` bound the moment at which a session began. `page` and `per_page` are another way to say
    `offset` and `limit`.
    """
    wanted = sessions.filter_of(
        agent=agent,
        schema=schema,
        status=status,
        user_sub=user_sub,
        begun_from=begun_from,
        begun_to=begun_to,
    )
    limit, offset = sessions.bounds(limit, offset, page, per_page)
    return await sessions.list_sessions(studio.database, principal, wanted, limit=limit, offset=offset)


@post("/sessions", guards=GUARDS)
async def add_session(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], data: JSONBody[NewSession]
) -> SessionSummary:
    """Opens a session before its first message; a chat with its id goes on in it."""
    return await session_keeping.add_session(studio, principal, data)


@put("/sessions/{session_id:str}", guards=GUARDS)
async def change_session(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    session_id: FromPath[str],
    data: JSONBody[SessionChange],
) -> SessionSummary:
    """Names or marks a session; what is left out stays."""
    return await session_keeping.change_session(studio, principal, session_id, data)


@get("/sessions/{session_id:str}/messages", guards=GUARDS)
async def read_messages(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], session_id: FromPath[str]
) -> list[SessionEvent]:
    """Everything that was said and done in a session, oldest first."""
    return await sessions.read_events(studio.database, principal, session_id)


@get("/sessions/{session_id:str}", guards=GUARDS)
async def read_session(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], session_id: FromPath[str]
) -> SessionDetail:
    """One session with everything that was said and done in it."""
    return await sessions.read_session(studio.database, principal, session_id)


@get("/sessions/{session_id:str}/events", guards=GUARDS, responses={200: STREAMED})
async def follow_session(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    session_id: FromPath[str],
    last_event_id: Annotated[str, HeaderParameter(name="Last-Event-ID")] = "",
) -> Stream:
    """The events of the session's latest turn, from the one after `Last-Event-ID` on."""
    events = await sessions.follow_session(studio, principal, session_id, last_event_id)
    return event_stream(events, session_id)


@post("/sessions/{session_id:str}/respond", guards=GUARDS, status_code=200)
async def respond(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    session_id: FromPath[str],
    data: JSONBody[Response],
) -> Accepted:
    """Answers a confirmation, once and while it waits; anything but a word of approval declines the call."""
    await confirmations.respond(studio, principal, session_id, data)
    return Accepted()


@delete("/sessions/{session_id:str}", guards=GUARDS)
async def delete_session(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], session_id: FromPath[str]
) -> None:
    """Stops the session's turn and deletes the session with its history."""
    await sessions.delete_session(studio, principal, session_id)


ROUTES = [
    list_sessions,
    add_session,
    read_session,
    change_session,
    read_messages,
    follow_session,
    respond,
    delete_session,
]
