"""One statement, from its text to the last byte of its answer.

guard → plan in a thread (waiting for the datasets it names) → first batch → bytes, slice by slice.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pyarrow as pa
from datafusion import DataFrame
from datafusion.expr import Analyze, Explain
from datafusion.record_batch import RecordBatchStream

from weir.lake_runtime import guard
from weir.lake_runtime.catalog import Scope, planning
from weir.lake_runtime.faults import DeadlinePassed, Fault, InvalidRequest, SourceError, translate
from weir.lake_runtime.register import Lake
from weir.lake_runtime.relations import Relation, RelationOpening
from weir.lake_runtime.results import Encoder, Summary, encoder_for, slices
from weir.lake_runtime.scrub import scrub
from weir.lake_runtime.session import QUERIES_ONLY
from weir.lake_runtime.wire import SqlRequest

Send = Callable[[dict[str, Any]], Awaitable[None]]

# Below this the whole answer is one message with its length; faults until then are proper statuses.
_FLUSH_BYTES = 256 * 1024


class Statement:
    """A planned statement: its rows as a stream, and what it reads."""

    def __init__(self, frame: DataFrame, stream: RecordBatchStream, limit: int | None) -> None:
        self.frame = frame
        self._stream: RecordBatchStream | None = stream
        self.schema: pa.Schema = frame.schema()
        self.limit = limit

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
    writer = _Writer(send)
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
    if failure is not None:
        raise AnswerBroken if writer.is_started else failure


async def _answer(lake: Lake, request: SqlRequest, writer: "_Writer", run: "Run") -> None:
    started = time.monotonic()
    statement = await plan(lake, request, run)
    await _stream(statement, request, writer, started)


class Run:
    """What is known of a statement while it runs, for the one who has to end it."""

    def __init__(self) -> None:
        self.scope: Scope = Scope()
        self.planning: asyncio.Future[Any] | None = None
        self.frame: DataFrame | None = None
        self.was_cancelled = False


async def plan(lake: Lake, request: SqlRequest, run: Run) -> Statement:
    """Plan in a thread, as often as it takes until every dataset that the statement names is open."""
    parameters = _parameters(request.parameters)
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
    guard.check(request.query, views=lake.view_expansions())
    with planning(scope):
        frame = lake.session.sql_with_options(request.query, QUERIES_ONLY, param_values=parameters)
        limit = request.maxRows
        if limit is not None and not isinstance(frame.logical_plan().to_variant(), Analyze | Explain):
            # One more than asked for tells whether there was more; a limit also makes sorts cheap.
            frame = frame.limit(limit + 1)
        return Statement(frame, frame.execute_stream(), limit)


def _scope_of(request: SqlRequest) -> Scope:
    allowed = None if request.tables is None else frozenset(name.lower() for name in request.tables)
    return Scope(allowed=allowed, wants_columns="columns" in request.query.lower())


def _parameters(parameters: list[Any] | dict[str, Any] | None) -> dict[str, Any]:
    """Positions are $1, $2, …; names are $name."""
    if parameters is None:
        return {}
    named = parameters if isinstance(parameters, dict) else {str(i): v for i, v in enumerate(parameters, 1)}
    try:
        return {name.removeprefix("$"): pa.scalar(value) for name, value in named.items()}
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise InvalidRequest(f"A parameter has a value that SQL cannot hold: {error}") from None


async def _stream(statement: Statement, request: SqlRequest, writer: "_Writer", started: float) -> None:
    encoder = encoder_for(request.format, statement.schema)
    writer.begin(encoder)
    row_count, is_truncated = 0, False
    async for batch in _ahead(statement.batches()):
        if statement.limit is not None and row_count + batch.num_rows > statement.limit:
            batch, is_truncated = batch.slice(0, statement.limit - row_count), True
        for part in slices(batch):
            await writer.write(encoder.rows(part))
            row_count += part.num_rows
            if request.maxBytes is not None and writer.size >= request.maxBytes:
                is_truncated = True
                break
        if is_truncated:
            break
    summary = Summary(
        rowCount=row_count,
        truncated=is_truncated,
        durationMs=round((time.monotonic() - started) * 1000, 3),
        coldStart=request.coldStart,
    )
    await writer.finish(encoder.tail(summary))


async def _ahead(stream: RecordBatchStream) -> AsyncGenerator[pa.RecordBatch, None]:
    """The stream's batches, each next one asked for before this one is encoded: the engine works meanwhile."""
    upcoming = asyncio.ensure_future(anext(stream, None))
    try:
        while (item := await upcoming) is not None:
            upcoming = asyncio.ensure_future(anext(stream, None))
            yield item.to_pyarrow()
    finally:
        upcoming.cancel()


class _Writer:
    """Sends an answer in pieces; holds the first ones back so that an early fault is still a status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._pieces: list[bytes] = []
        self._pending = 0
        self._content_type = ""
        self.is_started = False
        self.size = 0

    def begin(self, encoder: Encoder) -> None:
        self._content_type = encoder.content_type
        self._keep(encoder.head())

    async def write(self, piece: bytes) -> None:
        self._keep(piece)
        if self._pending >= _FLUSH_BYTES:
            await self._flush(more=True)
        else:
            # Encoding never awaits: let the loop serve the others between slices.
            await asyncio.sleep(0)

    async def finish(self, tail: bytes) -> None:
        self._keep(tail)
        await self._flush(more=False)

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._pending += len(piece)
        self.size += len(piece)

    async def _flush(self, *, more: bool) -> None:
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._pending = 0
        if not self.is_started:
            self.is_started = True
            headers = [(b"content-type", self._content_type.encode())]
            if not more:
                headers.append((b"content-length", str(len(body)).encode()))
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


def _told(error: Exception, lake: Lake, run: Run) -> Fault:
    """The fault as its reader may see it: datasets named, secrets out."""
    read = [relation for relation in _bases(lake, run.scope) if not relation.is_view]
    fault = translate(error, datasets=_blamed(str(error), read))
    if isinstance(fault, SourceError):
        return SourceError(fault.dataset, scrub(fault.reason, *read))
    fault.message = scrub(fault.message, *read)
    return fault


def _bases(lake: Lake, scope: Scope) -> list[Relation]:
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
    place = location.shown.removeprefix("s3://").rstrip("/")
    key = place.partition("/")[2] if location.host else place
    return bool((location.host and location.host in message) or (key and key in message))
