"""A message to a schema: the turn it opens, and how its events are read."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from msgspec import UNSET, Struct

from weir.agent_engine.history import messages_of
from weir.agent_engine.models.base import Message, UserMessage
from weir.agent_engine.naming import invalid, missing, reference
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import briefs, messages, sessions, turns
from weir.agent_engine.tables.briefs import Brief
from weir.agent_engine.tables.turns import NewTurn
from weir.agent_engine.turn import Assignment, Turn, run_turn
from weir.agent_engine.wire.chat import ChatAnswer, ChatRequest, ToolUse
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Connection, UniqueViolation
from weir_shared.errors import Conflict, Forbidden, InvalidRequest
from weir_shared.ids import new_id, parse_uuid

TITLE_CHARACTERS = 80
# More entries than any context holds.
HISTORY_ENTRIES = 400


class ChatDisabled(Forbidden):
    code = "chat_disabled"


class TurnRunning(Conflict):
    def __init__(self) -> None:
        super().__init__(
            "The session is still busy with the last message; read its events, and send the next one after `done`"
        )


class OpenedTurn(Struct, frozen=True):
    """A turn that runs, whether or not anybody reads it."""

    turn: Turn
    task: asyncio.Task[None]
    schema_id: str

    @property
    def session_id(self) -> str:
        return self.turn.assignment.session_id

    def follow(self) -> AsyncIterator[bytes]:
        return self.turn.events.follow()


async def open_chat(studio: Studio, principal: Principal, schema: str, request: ChatRequest) -> OpenedTurn:
    """Writes the message down and starts the turn that answers it, as a task of its own.

    Raises NotFound, ChatDisabled, InvalidRequest and TurnRunning.
    """
    if not request.message.strip():
        raise invalid("message", "a message is required")
    session_id = _session_id(request.session_id)
    tenant_id = principal.tenant_id
    try:
        async with studio.database.tenant(tenant_id) as connection:
            brief = _checked(await briefs.find(connection, tenant_id, *reference(schema, "schema")), schema)
            history: list[Message] = []
            if request.session_id is not None:
                history = await _history(connection, principal, session_id, brief)
            new = _new_turn(principal, session_id, brief, request.message)
            number = await turns.open_turn(connection, tenant_id, new)
    except UniqueViolation:
        raise TurnRunning from None
    return _start(studio, _assignment(principal, brief, new, number, history), brief.schema_id)


async def whole_answer(opened: OpenedTurn) -> ChatAnswer:
    """The answer once the turn has ended."""
    await asyncio.wait([opened.task])
    turn = opened.turn
    error: Any = UNSET
    if turn.fault is not None:
        error = {"code": turn.fault.code, "message": turn.fault.message}
    return ChatAnswer(
        session_id=opened.session_id,
        schema_id=opened.schema_id,
        message=turn.transcript.text or (turn.fault.message if turn.fault else ""),
        error=error,
        tool_calls=[ToolUse(**use) for use in turn.transcript.uses],
    )


def _session_id(text: str | None) -> str:
    if text is None:
        return new_id()
    session_id = parse_uuid(text)
    if session_id is None:
        raise invalid("session_id", "a session id is a UUID; leave it out to start a new session")
    return session_id


def _checked(brief: Brief | None, name: str) -> Brief:
    if brief is None:
        raise missing("schema", name)
    if not brief.chat_enabled:
        raise ChatDisabled(f"The schema '{brief.schema_name}' is not open for chat")
    if brief.agent is None or brief.model is None:
        raise InvalidRequest(f"The schema '{brief.schema_name}' has no entry agent")
    return brief


async def _history(
    connection: Connection, principal: Principal, session_id: str, brief: Brief
) -> list[Message]:
    """What was said before, when the session exists; an id that nobody uses begins a session."""
    session = await sessions.lock(connection, principal.tenant_id, session_id)
    if session is None:
        return []
    if session.owner != principal.identity:
        raise missing("session", session_id)
    if session.schema_id not in (brief.schema_id, None):
        raise invalid("session_id", f"the session belongs to the schema '{session.schema_name}'")
    await turns.fail_overdue(connection, principal.tenant_id, session_id)
    rows = await messages.of_session(connection, principal.tenant_id, session_id, limit=HISTORY_ENTRIES)
    return messages_of(rows)


def _new_turn(principal: Principal, session_id: str, brief: Brief, message: str) -> NewTurn:
    assert brief.agent is not None
    return NewTurn(
        id=new_id(),
        session_id=session_id,
        owner=principal.identity,
        schema_id=brief.schema_id,
        schema_name=brief.schema_name,
        agent=brief.agent.name,
        title=" ".join(message[: 4 * TITLE_CHARACTERS].split())[:TITLE_CHARACTERS],
        message=message,
        seconds=brief.agent.max_turn_duration,
    )


def _start(studio: Studio, assignment: Assignment, schema_id: str) -> OpenedTurn:
    turn = Turn(assignment)
    key = (turn.tenant_id, assignment.session_id)
    task = studio.running.start(key, turn.events, run_turn(turn, studio))
    return OpenedTurn(turn, task, schema_id)


def _assignment(
    principal: Principal, brief: Brief, new: NewTurn, number: int, history: list[Message]
) -> Assignment:
    assert brief.agent is not None
    assert brief.model is not None
    return Assignment(
        principal=principal,
        session_id=new.session_id,
        turn_id=new.id,
        number=number,
        agent=brief.agent,
        model=brief.model,
        messages=[*history, UserMessage(new.message)],
    )
