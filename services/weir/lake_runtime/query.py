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
from weir.lake_runtime.embed_function import TextsWanted, embed_wanted
from weir.lake_runtime.embedder import Vectors
from weir.lake_runtime.faults import (
    DeadlinePassed,
    Fault,
    InvalidRequest,
    ParametersMismatch,
    SourceError,
    translate,
)
from weir.lake_runtime.plans import without_places
from weir.lake_runtime.plans_kept import QUICK_SECONDS, Plan, plan_key
from weir.lake_runtime.pushdown import push_limit, push_whole
from weir.lake_runtime.register import Lake
from weir.lake_runtime.relations import Relation, RelationOpening
from weir.lake_runtime.results import Encoder, Summary, encoder_for, slices
from weir.lake_runtime.results_cache import KeptAnswer, key_of
from weir.lake_runtime.scrub import scrub
from weir.lake_runtime.session import QUERIES_ONLY
from weir.lake_runtime.similarity import for_the_engine, with_names_as_written
from weir.lake_runtime.starting import Start
from weir.lake_runtime.wire import SqlRequest
from weir.lake_runtime.writer import AnswerWriter, Send

# What may be read of a quick statement before the loop sees it.
_FIRST_BYTES = 1024 * 1024
_FIRST_BATCHES = 8


class Statement:
    """A plan that runs: its rows as a stream, the first of them perhaps here already."""

    def __init__(
        self,
        plan: Plan,
        stream: RecordBatchStream | None,
        first: list[pa.RecordBatch],
        adapt: Callable[[pa.RecordBatch], pa.RecordBatch] | None,
    ) -> None:
        self.plan = plan
        self._stream = stream
        self._first = first
        self._is_read = False
        self.adapt = adapt
        """What is done to the rows before anyone sees them."""
        self.cancel: Callable[[], None] | None = None if plan.pushed is None else plan.pushed.cancel
        """What ends the work of a source that answers the statement as a whole."""

    async def batches(self) -> AsyncGenerator[pa.RecordBatch, None]:
        """The rows, for one reader; the work behind them ends when the reader lets them go."""
        if self._is_read:
            raise RuntimeError("a statement is read once")
        self._is_read = True
        first, self._first = self._first, []
        stream, self._stream = self._stream, None
        for batch in first:
            yield batch
        if stream is not None:
            async with aclosing(_ahead(stream)) as rest:
                async for batch in rest:
                    yield batch


class AnswerBroken(Exception):
    """The answer failed after its first bytes had left: the connection must end without its end."""


async def answer(lake: Lake, request: SqlRequest, send: Send, *, seconds: float, run: "Run") -> None:
    """Plan, run and send a statement's answer; raises a `Fault`, or `AnswerBroken` once bytes have left."""
    writer = AnswerWriter(send)
    failure: Exception | None = None
    try:
        async with asyncio.timeout(seconds):
            # What the engine's threads have embedded for it ends with the statement.
            with lake.embedder.held(time.monotonic() + seconds):
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
    if request.useCache and (kept := lake.results.find(key_of(request))) is not None:
        writer.cache_status = "HIT"
        run.row_count = kept.summary.rowCount
        summary = structs.replace(kept.summary, coldStart=request.coldStart, durationMs=_since(started))
        await writer.send_whole(kept.content_type, kept.rows, kept.write_tail(summary))
        return
    known = lake.plans.find(plan_key(request, _allowed(request)))
    reads_files = known is None or known.reads_files
    async with lake.place(), lake.beginning(reads_files=reads_files) as run.start:
        await _run(lake, request, writer, run, started)


async def _run(lake: Lake, request: SqlRequest, writer: AnswerWriter, run: "Run", started: float) -> None:
    key, generation, begun = key_of(request), lake.results.generation, time.monotonic()
    statement = await plan(lake, request, run)
    known = statement.plan
    if known.is_repeatable:
        writer.cache_status = "MISS" if request.useCache else "BYPASS"
    as_text = request.int64 == "string"
    encoder = encoder_for(request.format, known.schema, int64_as_text=as_text)
    writer.begin(encoder)
    run.row_count, is_truncated = await _stream(statement, encoder, request, writer, run)
    summary = Summary(
        rowCount=run.row_count,
        truncated=is_truncated,
        durationMs=_since(started),
        coldStart=request.coldStart,
    )
    whole = writer.whole()
    known.is_quick = known.is_local and whole is not None and time.monotonic() - begun < QUICK_SECONDS
    rows = whole if known.is_repeatable and encoder.has_plain_tail else None
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
        self.cancel_source: Callable[[], None] | None = None
        self.start: Start | None = None
        self.was_cancelled = False
        self.failure: Exception | None = None
        self.row_count = 0
        self.cache_status = ""
        self.vectors: Vectors = {}
        """Of the texts that were embedded while it was planned."""


async def plan(lake: Lake, request: SqlRequest, run: Run) -> Statement:
    """Plan in a thread, as often as it takes until every dataset that the statement names is open; then run.

    A plan that is known already is run at once, and is planned no more.
    """
    parameters = _parameters(request)
    while True:
        run.scope, generation = _scope_of(request), lake.results.generation
        run.scope.vectors = run.vectors
        key = plan_key(request, run.scope.allowed)
        known = lake.plans.find(key)
        if known is not None:
            run.scope.touched.update(known.touched)
            run.frame = known.frame
        run.planning = asyncio.ensure_future(
            lake.plan_in_thread(partial(_start_or_want, lake, request, parameters, run.scope, known))
        )
        try:
            statement = await asyncio.shield(run.planning)
        except RelationOpening as waiting:
            await waiting.relation.settled()
        except TextsWanted:
            await embed_wanted(lake.embedder, run.scope, run.vectors)
        else:
            run.frame, run.cancel_source = statement.plan.frame, statement.cancel
            if statement.plan is not known and generation == lake.results.generation:
                lake.plans.keep(key, statement.plan)
            return statement


def _start_or_want(
    lake: Lake, request: SqlRequest, parameters: dict[str, Any], scope: Scope, known: Plan | None
) -> Statement:
    """Raises TextsWanted, however the engine takes it that some constants are not known yet."""
    try:
        statement = _start(lake, request, parameters, scope, known)
    except Exception:
        if not scope.wanted_texts:
            raise
    else:
        if not scope.wanted_texts:
            return statement
    raise TextsWanted


def _start(
    lake: Lake, request: SqlRequest, parameters: dict[str, Any], scope: Scope, known: Plan | None
) -> Statement:
    """In a thread: the plan, the work begun, and all its rows when it was over at once the last time."""
    with planning(scope):
        is_current = known is not None and lake.plans.reads_what_is_there(known)
        plan = known if known is not None and is_current else _plan_now(lake, request, parameters, scope)
        plan.is_quick = plan.is_quick or (known is not None and known.is_quick)
        stream = plan.frame.execute_stream()
    if scope.wanted_texts:
        raise TextsWanted
    # Only now is it known whether a constant was embedded.
    plan.is_repeatable = plan.is_repeatable and not scope.is_live
    adapt = None if plan.pushed is None else plan.pushed.adapt
    if plan.shows_plan:
        adapt = partial(without_places, relations=bases(lake, scope))
    elif adapt is None and plan.schema.names != plan.frame.schema().names:
        adapt = partial(pa.RecordBatch.rename_columns, names=plan.schema.names)
    first, is_whole = _read_first(stream) if plan.is_quick else ([], False)
    return Statement(plan, None if is_whole else stream, first, adapt)


def _plan_now(lake: Lake, request: SqlRequest, parameters: dict[str, Any], scope: Scope) -> Plan:
    complexity = guard.check(request.query, views=lake.view_expansions())
    scope.looks_for_rows = complexity.looks_for_rows
    scope.kept = lake.kept if complexity.is_of_one_table else None
    frame = lake.session.sql_with_options(
        for_the_engine(request.query), QUERIES_ONLY, param_values=parameters
    )
    if (session := lake.session_for(frame, bases_read(lake, scope))) is not lake.session:
        frame = session.sql_with_options(for_the_engine(request.query), QUERIES_ONLY, param_values=parameters)
    schema, limit = frame.schema(), request.maxRows
    shows_plan = isinstance(frame.logical_plan().to_variant(), Analyze | Explain)
    # One more than asked for tells whether there was more; a limit also makes sorts cheap.
    looked_at = None if limit is None or shows_plan else limit + 1
    pushed = None if shows_plan else push_whole(lake.session, frame, looked_at, bases_read(lake, scope))
    if pushed is not None:
        frame = pushed.frame
    elif not shows_plan:
        first = push_limit(lake.session, frame, looked_at, bases_read(lake, scope))
        limited = frame if looked_at is None else frame.limit(looked_at)
        frame = limited if first is None else first
    is_live = scope.is_live or any(r.is_volatile for r in scope.touched.values())
    return Plan(
        frame=frame,
        schema=with_names_as_written(schema),
        limit=limit,
        shows_plan=shows_plan,
        is_repeatable=not (complexity.is_volatile or is_live or shows_plan),
        touched=scope.touched,
        asks_for_copies=scope.kept is not None,
        copies=scope.copies,
        pushed=pushed,
        is_local=all(r.location is not None and r.location.store is None for r in bases_read(lake, scope)),
    )


def _read_first(stream: RecordBatchStream) -> tuple[list[pa.RecordBatch], bool]:
    """The rows of what is over at once, and whether that was all.

    It cannot be cancelled meanwhile, as planning cannot, and is watched like it. What it saves is the way to
    the loop and back for each batch, which costs more than a small statement's work.
    """
    first: list[pa.RecordBatch] = []
    size = 0
    while size < _FIRST_BYTES and len(first) < _FIRST_BATCHES:
        item = next(stream, None)
        if item is None:
            return first, True
        first.append(item.to_pyarrow())
        size += first[-1].nbytes
    return first, False


def _scope_of(request: SqlRequest) -> Scope:
    allowed = _allowed(request)
    return Scope(
        allowed=allowed,
        wants_columns="columns" in request.query.lower(),
        # Who may see some tables only must not read of the others in what colleagues have asked.
        asked_by=None if allowed is None else request.subject,
    )


def _allowed(request: SqlRequest) -> frozenset[str] | None:
    return None if request.tables is None else frozenset(name.lower() for name in request.tables)


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
    statement: Statement, encoder: Encoder, request: SqlRequest, writer: AnswerWriter, run: Run
) -> tuple[int, bool]:
    """Write the rows; how many there were, and whether there are more."""
    row_count = 0
    limit = statement.plan.limit
    async with aclosing(statement.batches()) as batches:
        async for whole in batches:
            if run.start is not None:
                run.start.end()
            batch = whole if statement.adapt is None else statement.adapt(whole)
            left = batch.num_rows if limit is None else limit - row_count
            is_last = batch.num_rows > left
            for part in slices(batch.slice(0, left) if is_last else batch):
                if request.maxBytes is not None and writer.size >= request.maxBytes:
                    return row_count, True
                await writer.write(encoder.rows(part))
                row_count += part.num_rows
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
    read = bases_read(lake, run.scope)
    fault = translate(error, datasets=_blamed(str(error), read))
    if isinstance(fault, SourceError):
        return SourceError(fault.dataset, scrub(fault.reason, *read))
    fault.message = scrub(fault.message, *read)
    return fault


def bases(lake: Lake, scope: Scope) -> list[Relation]:
    names = set(scope.touched).union(*(r.bases for r in scope.touched.values()))
    return [lake.relations[name] for name in sorted(names) if name in lake.relations]


def bases_read(lake: Lake, scope: Scope) -> list[Relation]:
    """The datasets that a statement reads, through views too."""
    return [relation for relation in bases(lake, scope) if not relation.is_view]


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
