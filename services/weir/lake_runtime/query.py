"""One statement, from its text to the last byte of its answer.

guard → plan in a thread (waiting for the datasets it names) → first batch → bytes, slice by slice.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import pyarrow as pa
from datafusion import DataFrame
from datafusion.expr import Analyze, Explain
from datafusion.record_batch import RecordBatchStream
from msgspec import structs

from weir.lake_runtime import guard
from weir.lake_runtime.catalog import Scope, planning
from weir.lake_runtime.faults import (
    DeadlinePassed,
    Fault,
    InvalidRequest,
    ParametersMismatch,
    SourceError,
    translate,
)
from weir.lake_runtime.plans import without_places
from weir.lake_runtime.register import Lake
from weir.lake_runtime.relations import Relation, RelationOpening
from weir.lake_runtime.results import Encoder, Summary, encoder_for, slices
from weir.lake_runtime.results_cache import KeptAnswer, key_of
from weir.lake_runtime.scrub import scrub
from weir.lake_runtime.session import QUERIES_ONLY
from weir.lake_runtime.wire import SqlRequest
from weir.lake_runtime.writer import AnswerWriter, Send


class Statement:
    """A planned statement: its rows as a stream, and what it reads."""

    def __init__(self, frame: DataFrame, stream: RecordBatchStream, limit: int | None) -> None:
        self.frame = frame
        self._stream: RecordBatchStream | None = stream
        self.schema: pa.Schema = frame.schema()
        self.limit = limit
        self.is_repeatable = False
        """Whether the same text over the same tables gives the same answer."""
        self.adapt: Callable[[pa.RecordBatch], pa.RecordBatch] | None = None
        """What is done to the rows before anyone sees them."""

    def batches(self) -> RecordBatchStream:
        """The stream, for one reader; the work behind it ends when the reader lets it go."""
        stream, self._stream = self._stream, None
        if stream is None:
            raise RuntimeError("a statement is read once")
        return stream


class AnswerBroken(Exception):
    """The answer failed after its first bytes had left: the connection must end without its end."""


async def answer(lake: Lake, request: SqlRequest, send: Send, *, seconds: float, run: "Run") -> None:
    """Plan, run and send a statement's answer; raises a `Fault`, or `AnswerBroken` once bytes have left."""
    writer = AnswerWriter(send)
    failure: Exception | None = None
    try:
        async with asyncio.timeout(seconds):
            await _answer(lake, request, writer, run)
    except TimeoutError:
        run.was_cancelled = True
        failure = DeadlinePassed()
    except Exception as error:  # noqa: BLE001 - the engine raises bare exceptions; translated here only
        failure = _told(error, lake, run)
    # Raised out here, without the first error as its context: a traceback that lives on keeps the frames
    # which hold the stream, and a stream that is held keeps its work running.
    run.cache_status = writer.cache_status
    if failure is not None:
        run.failure = failure
        raise AnswerBroken if writer.is_started else failure


async def _answer(lake: Lake, request: SqlRequest, writer: AnswerWriter, run: "Run") -> None:
    started = time.monotonic()
    key, generation = key_of(request), lake.results.generation
    if request.useCache and (kept := lake.results.find(key)) is not None:
        writer.cache_status = "HIT"
        run.row_count = kept.summary.rowCount
        summary = structs.replace(kept.summary, coldStart=request.coldStart, durationMs=_since(started))
        await writer.send_whole(kept.content_type, kept.rows, kept.write_tail(summary))
        return
    statement = await plan(lake, request, run)
    if statement.is_repeatable:
        writer.cache_status = "MISS" if request.useCache else "BYPASS"
    encoder = encoder_for(request.format, statement.schema)
    writer.begin(encoder)
    run.row_count, is_truncated = await _stream(statement, encoder, request, writer)
    summary = Summary(
        rowCount=run.row_count,
        truncated=is_truncated,
        durationMs=_since(started),
        coldStart=request.coldStart,
    )
    rows = writer.whole() if statement.is_repeatable and encoder.has_plain_tail else None
    await writer.finish(encoder.tail(summary))
    if rows is not None:
        kept = KeptAnswer(
            content_type=encoder.content_type, rows=rows, summary=summary, write_tail=encoder.tail
        )
        lake.results.keep(key, kept, generation=generation)


def _since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 3)


class Run:
    """What is known of a statement while it runs, for the one who has to end it."""

    def __init__(self) -> None:
        self.scope: Scope = Scope()
        self.planning: asyncio.Future[Any] | None = None
        self.frame: DataFrame | None = None
        self.was_cancelled = False
        self.failure: Exception | None = None
        self.row_count = 0
        self.cache_status = ""


async def plan(lake: Lake, request: SqlRequest, run: Run) -> Statement:
    """Plan in a thread, as often as it takes until every dataset that the statement names is open."""
    parameters = _parameters(request)
    while True:
        run.scope = _scope_of(request)
        run.planning = asyncio.ensure_future(
            lake.plan_in_thread(lambda: _plan_now(lake, request, parameters, run.scope))
        )
        try:
            statement = await asyncio.shield(run.planning)
        except RelationOpening as waiting:
            await waiting.relation.settled()
        else:
            run.frame = statement.frame
            return statement


def _plan_now(lake: Lake, request: SqlRequest, parameters: dict[str, Any], scope: Scope) -> Statement:
    is_volatile = guard.check(request.query, views=lake.view_expansions()).is_volatile
    with planning(scope):
        frame = lake.session.sql_with_options(request.query, QUERIES_ONLY, param_values=parameters)
        limit = request.maxRows
        shows_plan = isinstance(frame.logical_plan().to_variant(), Analyze | Explain)
        if limit is not None and not shows_plan:
            # One more than asked for tells whether there was more; a limit also makes sorts cheap.
            frame = frame.limit(limit + 1)
        statement = Statement(frame, frame.execute_stream(), limit)
    if shows_plan:
        statement.adapt = partial(without_places, relations=bases(lake, scope))
    is_live = scope.is_live or any(r.is_volatile for r in scope.touched.values())
    statement.is_repeatable = not (is_volatile or is_live or shows_plan)
    return statement


def _scope_of(request: SqlRequest) -> Scope:
    allowed = None if request.tables is None else frozenset(name.lower() for name in request.tables)
    return Scope(
        allowed=allowed,
        wants_columns="columns" in request.query.lower(),
        # Who may see some tables only must not read of the others in what colleagues have asked.
        asked_by=None if allowed is None else request.subject,
    )


def _parameters(request: SqlRequest) -> dict[str, Any]:
    """Positions are $1, $2, …; names are $name. One that is missing is the engine's to tell."""
    if not request.parameters:
        return {}
    named = (
        {name.removeprefix("$"): value for name, value in request.parameters.items()}
        if isinstance(request.parameters, dict)
        else {str(i): value for i, value in enumerate(request.parameters, 1)}
    )
    known = guard.placeholders(request.query)
    if unknown := [name for name in named if name.lower() not in known]:
        raise ParametersMismatch(f"The statement has no placeholder {', '.join('$' + n for n in unknown)}.")
    try:
        return {name: pa.scalar(value) for name, value in named.items()}
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise InvalidRequest(f"A parameter has a value that SQL cannot hold: {error}") from None


async def _stream(
    statement: Statement, encoder: Encoder, request: SqlRequest, writer: AnswerWriter
) -> tuple[int, bool]:
    """Write the rows; how many there were, and whether there are more."""
    row_count = 0
    async with aclosing(_ahead(statement.batches())) as batches:
        async for whole in batches:
            batch = whole if statement.adapt is None else statement.adapt(whole)
            left = batch.num_rows if statement.limit is None else statement.limit - row_count
            is_last = batch.num_rows > left
            for part in slices(batch.slice(0, left) if is_last else batch):
                await writer.write(encoder.rows(part))
                row_count += part.num_rows
                if request.maxBytes is not None and writer.size >= request.maxBytes:
                    return row_count, True
            if is_last:
                return row_count, True
    return row_count, False


async def _ahead(stream: RecordBatchStream) -> AsyncGenerator[pa.RecordBatch, None]:
    """The stream's batches, each next one asked for before this one is encoded: the engine works meanwhile."""
    upcoming = asyncio.ensure_future(anext(stream, None))
    try:
        while (item := await upcoming) is not None:
            upcoming = asyncio.ensure_future(anext(stream, None))
            yield item.to_pyarrow()
    finally:
        upcoming.cancel()


def _told(error: Exception, lake: Lake, run: Run) -> Fault:
    """The fault as its reader may see it: datasets named, secrets out."""
    read = [relation for relation in bases(lake, run.scope) if not relation.is_view]
    fault = translate(error, datasets=_blamed(str(error), read))
    if isinstance(fault, SourceError):
        return SourceError(fault.dataset, scrub(fault.reason, *read))
    fault.message = scrub(fault.message, *read)
    return fault


def bases(lake: Lake, scope: Scope) -> list[Relation]:
    names = set(scope.touched).union(*(r.bases for r in scope.touched.values()))
    return [lake.relations[name] for name in sorted(names) if name in lake.relations]


def _blamed(message: str, read: list[Relation]) -> list[str]:
    """The datasets whose place an error names; all that the statement reads when it names none."""
    named = [r.name for r in read if r.location is not None and _is_named(message, r)]
    return named or [r.name for r in read]


def _is_named(message: str, relation: Relation) -> bool:
    location = relation.location
    if location is None:
        return False
    place = location.shown.rpartition("://")[2].rstrip("/")
    key = place.partition("/")[2] if location.host else place
    return bool((location.host and location.host in message) or (key and key in message))
