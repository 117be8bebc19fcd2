"""A message to a schema: the turn it opens, and how its events are read."""

import asyncio
import math
from collections.abc import AsyncGenerator
from typing import Any

from msgspec import UNSET, Struct

from weir.agent_engine.forwarded import NOTHING_FORWARDED, ForwardedHeaders
from weir.agent_engine.history import messages_of
from weir.agent_engine.models.base import Message, ModelAccess, Sampling, UserMessage
from weir.agent_engine.models.own_key import OwnModel, own_access
from weir.agent_engine.naming import MAX_CHARACTERS, invalid, missing, reference
from weir.agent_engine.replica import LEASE_SECONDS, RENEW_SECONDS
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import briefs, messages, sessions, turns
from weir.agent_engine.tables.briefs import Brief
from weir.agent_engine.tables.sessions import SessionRow
from weir.agent_engine.tables.turns import Holder, NewTurn
from weir.agent_engine.turn import Assignment, Turn
from weir.agent_engine.turn_loop import run_turn
from weir.agent_engine.wire.chat import ChatAnswer, ChatRequest, ToolUse
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Connection, UniqueViolation
from weir_shared.errors import Conflict, Forbidden, InvalidRequest, NotFound
from weir_shared.ids import new_id, parse_uuid

TITLE_CHARACTERS = 80
# More entries than any context holds.
HISTORY_ENTRIES = 400
# When to try again while nothing is known of the turn's end.
BUSY_SECONDS = 2
# A lease that is shorter has not been renewed when it should have been.
SILENT_BELOW_SECONDS = LEASE_SECONDS - RENEW_SECONDS - 2


class ChatDisabled(Forbidden):
    code = "chat_disabled"


class SchemaMissing(NotFound):
    code = "schema_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no schema '{name[:MAX_CHARACTERS]}'")


class TurnRunning(Conflict):
    """The session is busy; the answer says with what, and when to come back."""

    def __init__(self, holder: Holder) -> None:
        seconds, reason = BUSY_SECONDS, "read its events, and send the next one after `done`"
        if holder.lease_left is not None and holder.lease_left < SILENT_BELOW_SECONDS:
            seconds = max(1, math.ceil(holder.lease_left))
            reason = (
                f"the process that runs it does not report; if it is gone, the session is free in {seconds} s"
            )
        elif holder.asks:
            reason = "it waits for an answer to its confirmation: send that first"
        super().__init__(
            f"The session is still busy with the last message; {reason}",
            details={"retry_after": seconds},
            headers={"Retry-After": str(seconds)},
        )


class Brought(Struct, frozen=True, kw_only=True):
    """What a caller brings besides its message, for this one turn; none of it is written down.

    `own` is a model of the caller's, `forwarded` what its tools' servers may get.
    `history` is what was said before by the caller's own account; a session that goes on has its own.
    """

    own: OwnModel | None = None
    forwarded: ForwardedHeaders = NOTHING_FORWARDED
    history: tuple[Message, ...] = ()
    instructions: str = ""
    sampling: Sampling = Sampling()


class Before(Struct, frozen=True):
    """What a session brings to its next turn: what was said, and what was learnt of the tokens in it."""

    messages: list[Message]
    token_scale: float = 1.0


class OpenedTurn(Struct, frozen=True):
    """A turn that runs, whether or not anybody reads it."""

    turn: Turn
    task: asyncio.Task[None]
    schema_id: str

    @property
    def session_id(self) -> str:
        return self.turn.assignment.session_id

    def follow(self) -> AsyncGenerator[bytes, None]:
        return self.turn.events.follow()


async def open_chat(
    studio: Studio, principal: Principal, schema: str, request: ChatRequest, brought: Brought
) -> OpenedTurn:
    """Writes the message down and starts the turn that answers it, as a task of its own.

    Raises SchemaMissing, NotFound, ChatDisabled, Forbidden, InvalidRequest and TurnRunning.
    """
    if not request.message.strip():
        raise invalid("message", "a message is required")
    session_id = _session_id(request.session_id)
    tenant_id = principal.tenant_id
    try:
        async with studio.database.tenant(tenant_id) as connection:
            brief = await _brief(connection, tenant_id, schema)
            access = brought.own and await own_access(
                connection, tenant_id, brought.own, brief.model, allow_private=studio.allow_private
            )
            before = Before(list(brought.history))
            if request.session_id is not None:
                before = await _before(connection, principal, session_id, brief)
            new = _new_turn(studio, principal, session_id, brief, request.message)
            number = await turns.open_turn(connection, tenant_id, new)
    except UniqueViolation:
        raise TurnRunning(await _holder(studio, tenant_id, session_id)) from None
    assignment = _assignment(principal, brief, new, number, before, access, brought)
    return _start(studio, assignment, brief.schema_id)


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


async def _holder(studio: Studio, tenant_id: str, session_id: str) -> Holder:
    async with studio.database.tenant(tenant_id) as connection:
        return await turns.holder(connection, tenant_id, session_id)


def _session_id(text: str | None) -> str:
    if text is None:
        return new_id()
    session_id = parse_uuid(text)
    if session_id is None:
        raise invalid("session_id", "a session id is a UUID; leave it out to start a new session")
    return session_id


async def _brief(connection: Connection, tenant_id: str, name: str) -> Brief:
    try:
        label, id = reference(name, "schema")
    except NotFound:
        raise SchemaMissing(name) from None
    brief = await briefs.find(connection, tenant_id, label, id)
    if brief is None:
        raise SchemaMissing(name)
    if not brief.chat_enabled:
        raise ChatDisabled(f"The schema '{brief.schema_name}' is not open for chat")
    if brief.agent is None or brief.model is None:
        raise InvalidRequest(f"The schema '{brief.schema_name}' has no entry agent")
    return brief


async def _before(connection: Connection, principal: Principal, session_id: str, brief: Brief) -> Before:
    """What was said before, when the session exists; an id that nobody uses begins a session."""
    session = await sessions.lock(connection, principal.tenant_id, session_id)
    if session is None:
        return Before([])
    if session.owner != principal.identity:
        raise missing("session", session_id)
    if session.schema_id not in (brief.schema_id, None):
        raise invalid("session_id", f"the session belongs to the schema '{session.schema_name}'")
    await turns.fail_lost(connection, principal.tenant_id, session_id)
    return await said_before(connection, principal.tenant_id, session)


async def said_before(connection: Connection, tenant_id: str, session: SessionRow) -> Before:
    rows = await messages.of_session(
        connection, tenant_id, session.id, limit=HISTORY_ENTRIES, with_sub_agents=False
    )
    return Before(messages_of(rows), session.token_scale or 1.0)


def _new_turn(studio: Studio, principal: Principal, session_id: str, brief: Brief, message: str) -> NewTurn:
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
        replica=studio.elsewhere.replica_id,
    )


def _start(studio: Studio, assignment: Assignment, schema_id: str) -> OpenedTurn:
    turn = Turn(assignment)
    key = (turn.tenant_id, assignment.session_id)
    task = studio.running.start(key, turn.events, run_turn(turn, studio))
    return OpenedTurn(turn, task, schema_id)


def _assignment(
    principal: Principal,
    brief: Brief,
    new: NewTurn,
    number: int,
    before: Before,
    own_access: ModelAccess | None,
    brought: Brought,
) -> Assignment:
    assert brief.agent is not None
    assert brief.model is not None
    return Assignment(
        principal=principal,
        schema_id=brief.schema_id,
        has_relations=brief.has_relations,
        session_id=new.session_id,
        turn_id=new.id,
        number=number,
        agent=brief.agent,
        model=brief.model,
        messages=[*before.messages, UserMessage(new.message)],
        own_access=own_access,
        instructions=brought.instructions,
        sampling=brought.sampling,
        forwarded_headers=brought.forwarded,
        token_scale=before.token_scale,
    )
