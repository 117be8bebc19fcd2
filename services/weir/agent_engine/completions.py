"""The engine as OpenAI's clients see it: a schema is a model, a turn is a chat completion."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from weir.agent_engine.chat import Brought, OpenedTurn, SchemaMissing, open_chat
from weir.agent_engine.completion_asked import asked_in
from weir.agent_engine.completion_told import Telling
from weir.agent_engine.events import OPENING, one_line, told_in
from weir.agent_engine.naming import MAX_CHARACTERS, invalid
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import schemas
from weir.agent_engine.tables.schemas import SchemaRow
from weir.agent_engine.turn import Fault
from weir.agent_engine.wire.chat import ChatRequest
from weir.agent_engine.wire.completions import (
    AnswerMessage,
    Choice,
    Chunk,
    ChunkChoice,
    Completion,
    CompletionRequest,
    Delta,
    ModelCard,
    ModelCards,
    Usage,
)
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Database
from weir_shared.errors import (
    BadGateway,
    DeadlineExceeded,
    FieldError,
    InvalidRequest,
    NotFound,
    TooManyRequests,
    Unavailable,
    WeirError,
)
from weir_shared.ids import parse_uuid
from weir_shared.web.errors import render_openai_error

SESSION = "X-Session-Id"
LAST = b"data: [DONE]\n\n"
# What the answer's end is called where it was not simply the end.
CUT_SHORT = ("length", "content_filter")

# A failed turn by the code of its fault; what else befalls a model is a bad gateway.
_FAILURES: dict[str, type[WeirError]] = {
    "interrupted": Unavailable,
    "model_context_exceeded": InvalidRequest,
    "model_overloaded": Unavailable,
    "model_rate_limited": TooManyRequests,
    "model_timed_out": DeadlineExceeded,
    "stopped": Unavailable,
    "timeout": DeadlineExceeded,
    "unavailable": Unavailable,
}
_CODES = {"model_context_exceeded": "context_length_exceeded"}

_json = msgspec.json.Encoder()


class ModelMissing(NotFound):
    code = "model_not_found"

    def __init__(self, name: str) -> None:
        sentence = (
            f"There is no model '{name[:MAX_CHARACTERS]}'; GET /v1/models lists the schemas that there are"
        )
        super().__init__(sentence, errors=[FieldError(path="model", message=sentence)])


class Opened(Struct, frozen=True, kw_only=True):
    """A turn that runs, and what every piece of its answer begins with."""

    turn: OpenedTurn
    id: str
    created: int
    model: str
    tells_usage: bool

    @property
    def usage(self) -> Usage:
        """What the turn and its sub-agents took in all; whole once it has ended."""
        turn = self.turn.turn
        asked, answered = turn.input_tokens, turn.output_tokens
        return Usage(prompt_tokens=asked, completion_tokens=answered, total_tokens=asked + answered)

    @property
    def finish_reason(self) -> str:
        reason = self.turn.turn.finish_reason
        return reason if reason in CUT_SHORT else "stop"


async def list_models(database: Database, principal: Principal) -> ModelCards:
    return ModelCards(data=[_card(row) for row in await open_schemas(database, principal)])


async def read_model(database: Database, principal: Principal, name: str) -> ModelCard:
    """A schema by its name or its id. Raises ModelMissing, also for one that is not open for chat."""
    for row in await open_schemas(database, principal):
        if name in (row.name, row.id):
            return _card(row)
    raise ModelMissing(name)


async def open_completion(
    studio: Studio,
    principal: Principal,
    request: CompletionRequest,
    session_id: str | None,
    brought: Brought,
) -> Opened:
    """Starts the turn that answers the last message, in a session of its own or in the one that is named.

    Raises what `open_chat` raises, with ModelMissing for a schema that there is not.
    """
    asked = asked_in(request)
    if session_id is not None and parse_uuid(session_id) is None:
        raise invalid(SESSION, "a session id is a UUID; leave the header out to start a new session")
    brought = replace(
        brought, history=asked.history, instructions=asked.instructions, sampling=asked.sampling
    )
    message = ChatRequest(message=asked.message, session_id=session_id)
    try:
        turn = await open_chat(studio, principal, request.model, message, brought)
    except SchemaMissing:
        raise ModelMissing(request.model) from None
    return Opened(
        turn=turn,
        id=f"chatcmpl-{turn.turn.assignment.turn_id}",
        created=int(time.time()),
        model=request.model,
        tells_usage=bool(request.stream_options and request.stream_options.include_usage),
    )


async def whole_completion(opened: Opened) -> Completion:
    """The answer once the turn has ended. Raises the WeirError of a turn that failed."""
    await asyncio.wait([opened.turn.task])
    telling = Telling()
    said, thought = list[str](), list[str]()
    for event, data in told_in(opened.turn.turn.events.since(0)):
        if delta := telling.take(event, data):
            said.append(delta.content or "")
            thought.append(delta.reasoning_content or "")
    if telling.fault is not None:
        raise failure_of(telling.fault, opened.turn.session_id)
    message = AnswerMessage(content="".join(said), reasoning_content="".join(thought) or UNSET)
    return Completion(
        id=opened.id,
        created=opened.created,
        model=opened.model,
        choices=[Choice(message=message, finish_reason=opened.finish_reason)],
        usage=opened.usage,
    )


async def streamed_completion(opened: Opened) -> AsyncGenerator[bytes, None]:
    """The answer as it comes; comments break silences, and a turn that fails ends with an error."""
    telling = Telling()
    async with aclosing(opened.turn.follow()) as parts:
        async for part in parts:
            if part.startswith(b":"):
                yield part + (_chunk(opened, Delta(role="assistant", content="")) if part == OPENING else b"")
                continue
            deltas = [delta for event, data in told_in(part) if (delta := telling.take(event, data))]
            if deltas:
                yield b"".join(_chunk(opened, delta) for delta in deltas)
    yield _end_of(opened, telling)


def failure_of(fault: Fault, session_id: str) -> WeirError:
    """A failed turn as an error with a status.

    Clients are told not to ask again by themselves: tools may have run, and would run once more.
    """
    known = _FAILURES.get(fault.code)
    kind = known or (BadGateway if fault.code.startswith("model_") else WeirError)
    return kind(
        fault.message,
        code=_CODES.get(fault.code, fault.code),
        headers={SESSION: session_id, "X-Should-Retry": "false"},
    )


def _end_of(opened: Opened, telling: Telling) -> bytes:
    if telling.fault is not None:
        error = failure_of(telling.fault, opened.turn.session_id)
        return _frame(render_openai_error(error, "")) + LAST
    end = _chunk(opened, Delta(), opened.finish_reason)
    if opened.tells_usage:
        end += _frame(_piece(opened, [], opened.usage))
    return end + LAST


def _chunk(opened: Opened, delta: Delta, finish_reason: str | None = None) -> bytes:
    choice = ChunkChoice(delta=delta, finish_reason=finish_reason)
    return _frame(_piece(opened, [choice], None))


def _piece(opened: Opened, choices: list[ChunkChoice], usage: Usage | None) -> Chunk:
    return Chunk(
        id=opened.id,
        created=opened.created,
        model=opened.model,
        choices=choices,
        usage=usage if opened.tells_usage else UNSET,
    )


def _frame(content: object) -> bytes:
    return b"data: %b\n\n" % one_line(_json.encode(content))


async def open_schemas(database: Database, principal: Principal) -> list[SchemaRow]:
    """The tenant's schemas that a chat can begin with, oldest first."""
    async with database.tenant(principal.tenant_id) as connection:
        rows = await schemas.every(connection, principal.tenant_id)
    return [row for row in rows if row.chat_enabled and row.entry_agent_id is not None]


def _card(row: SchemaRow) -> ModelCard:
    return ModelCard(id=row.name, created=int(row.created_at.timestamp()))
