"""The runtime's HTTP wire: a raw ASGI application on a unix socket.

Every request carries `x-weir-runtime-secret`, else 401. Bodies are JSON. An error is
`{"error": sentence, "code": slug, "status": n}` with that status; it may add `position {line, column}`
(sql_error), `dataset` (source_error) and `phase` (timeout).

`PUT /configuration` `{"version", "datasets": [{"name", "connector", "from", "format", "location",
"options", "roots", "keeping"}], "views": [{"name", "sql", "fingerprint", "keeping"}], "force",
"keptBytes", "embeddings"}` → `{"ok": true, "version"}` at once; datasets open in the background. Unchanged datasets
that are ready are kept unless `force`. What has a `keeping` is loaded into the cache directory and read from there; it
is found there again by the next process. With `force` it is loaded anew, whatever its columns have become.
`embeddings` is the URL at which the desk embeds texts for runtimes.

`GET /status` → `{"version", "uptimeSeconds", "rssBytes", "activeQueries", "activeRefreshes", "datasets":
{name: {"status", "error": {"message", "at"} | null, "loadedAt", "columns": [{"name", "type", "nullable"}] |
null, "schemaHash", "rowCount", "byteCount", "generation"}}, "views": {…}}`. It waits for nothing.

`GET /tables[?name=…]` → `{"tables": [{"name", "kind": "dataset" | "view", "status", "error", "loadedAt",
"columns"}]}`; waits for what is still opening, at most `x-weir-deadline-ms` (30 000).

`GET /schemas[?name=…]` → `{"schemas": {name: {"fingerprint", "schema"}}}` of the datasets that have been
opened, each column in full; names it does not know are left out. It waits for nothing.

`POST /datasets/{name}/refresh` `{"trigger"}` → `{"ok": no error, "name", "status", "error", "loadedAt",
"columns", "schemaHash", "rowCount", "byteCount", "generation"}`, when the dataset or materialised view has
been read again and the views over it planned again, all of it in place at one moment. The name is
percent-encoded. A refresh that fails, or takes longer than `x-weir-deadline-ms` (an hour), keeps the earlier
table answering. It goes on when its caller leaves.

`POST /probe` `{"dataset": {…as in the configuration…}}` with `x-weir-deadline-ms` (15 000) → `{"columns": […]}` when
the source could be opened, else the error `source_error`. Nothing of it is kept; it needs no configuration.

`POST /sql` `{"query", "parameters", "maxRows", "maxBytes", "format", "int64", "tables", "subject", "traceId",
"useCache", "coldStart"}` with `x-weir-deadline-ms` (180 000) → 200 `{"rows": […], "schema": […],
"rowCount", "truncated", "durationMs", "coldStart"}`, or NDJSON, CSV, an Arrow stream, a text table by
`format`. `maxRows` null: no limit. `results-cache-status` is HIT, MISS or BYPASS (`useCache` false) where
an answer may be kept. Every statement is then a row of `runtime.task_history`. A failure after the first bytes closes the connection without the end of the body.

`POST /stop` `{"drainSeconds"}` → `{"ok": true}`; no new connection is taken, running answers get that
long, then the process exits 0.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from hmac import compare_digest
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote

import msgspec
from msgspec.structs import asdict

from weir.lake_runtime.deadline import Deadlines
from weir.lake_runtime.faults import (
    DatasetNotFound,
    DeadlinePassed,
    Fault,
    InvalidRequest,
    RuntimeStopping,
    Unauthorized,
)
from weir.lake_runtime.kept_tables import KeptTables
from weir.lake_runtime.probe import PROBE_SECONDS, probe
from weir.lake_runtime.query import AnswerBroken, Run, answer
from weir.lake_runtime.reckoning import reckon
from weir.lake_runtime.refreshing import LOAD_SECONDS, Loads
from weir.lake_runtime.register import Lake, Threads
from weir.lake_runtime.relations import Relation
from weir.lake_runtime.scrub import scrub_secrets
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.task_history import MAX_INPUT, TaskHistory
from weir.lake_runtime.wire import (
    Configuration,
    ProbeRequest,
    RefreshRequest,
    RelationStatus,
    SqlRequest,
    Status,
    StopRequest,
)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
T = TypeVar("T")

_MAX_BODY = 8 * 1024 * 1024
_SQL_SECONDS = 180.0
_TABLES_SECONDS = 30.0


class NotFound(Fault):
    status, code = 404, "not_found"


class Request:
    """One HTTP request, its body read."""

    def __init__(self, scope: dict[str, Any], body: bytes, receive: Receive) -> None:
        self.method = str(scope["method"])
        self.path = (scope.get("raw_path") or scope["path"].encode()).decode("ascii", "replace")
        self.query = parse_qs(scope["query_string"].decode("latin-1"))
        self.headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        self.body = body
        self.receive = receive

    def decode(self, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(self.body or b"{}", type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(f"The body is not what this route reads: {error}") from None

    def seconds(self, default: float) -> float:
        """What is left of the caller's time budget."""
        text = self.headers.get("x-weir-deadline-ms", "")
        if not text:
            return default
        try:
            return max(0.0, min(float(text) / 1000, 86_400.0))
        except ValueError:
            raise InvalidRequest("x-weir-deadline-ms is a number of milliseconds.") from None


class RuntimeApp:
    """The application of one tenant's runtime."""

    def __init__(
        self, settings: RuntimeSettings, deadlines: Deadlines, stop: Callable[[float], None]
    ) -> None:
        self._settings = settings
        self._deadlines = deadlines
        self._stop = stop
        self._threads = Threads()
        self._started = time.monotonic()
        self._lake: Lake | None = None
        self._history = TaskHistory()
        self._loads = Loads(settings)
        self._kept = KeptTables(settings)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"unexpected ASGI scope {scope['type']}")
        try:
            request = Request(scope, await _body(receive), receive)
            self._require_secret(request)
            await self._route(request)(request, send)
        except AnswerBroken:
            return  # without the end of the body the server closes the connection
        except Fault as fault:
            await _send_json(send, fault.status, fault.body())

    def _route(self, request: Request) -> Callable[[Request, Send], Coroutine[Any, Any, None]]:
        routes = {
            ("POST", "/sql"): self.sql,
            ("PUT", "/configuration"): self.configure,
            ("GET", "/status"): self.status,
            ("GET", "/tables"): self.tables,
            ("POST", "/probe"): self.probe,
            ("GET", "/schemas"): self.schemas,
            ("POST", "/stop"): self.stop,
        }
        if route := routes.get((request.method, request.path)):
            return route
        parts = request.path.split("/")
        if request.method == "POST" and len(parts) == 4 and parts[1] == "datasets" and parts[3] == "refresh":
            return self.refresh
        raise NotFound("There is no such route.")

    async def configure(self, request: Request, send: Send) -> None:
        configuration = request.decode(Configuration)
        self._threads.embedder.reach(configuration.embeddings, self._settings)
        lake = Lake(configuration, self._settings, self._threads, self._history, self._kept, self._loads)
        if self._lake is not None:
            lake.carry_over(self._lake, force=configuration.force)
            self._lake.retire(lake)
        self._lake = lake
        lake.start()
        await _send_json(send, 200, {"ok": True, "version": lake.version})

    async def status(self, _: Request, send: Send) -> None:
        relations = list(self._lake.relations.values()) if self._lake else []
        status = Status(
            version=self._lake.version if self._lake else 0,
            uptimeSeconds=round(time.monotonic() - self._started, 3),
            rssBytes=resident_bytes(),
            activeQueries=self._deadlines.active,
            activeRefreshes=self._loads.active,
            datasets={r.name: r.describe() for r in relations if not r.is_view},
            views={r.name: r.describe() for r in relations if r.is_view},
        )
        await _send_json(send, 200, status)

    async def tables(self, request: Request, send: Send) -> None:
        lake = self._require_lake()
        names = request.query.get("name")
        found = [lake.find(name) for name in names] if names else list(lake.relations.values())
        relations = [relation for relation in found if relation is not None]
        if len(relations) < len(found):
            raise DatasetNotFound("There is no dataset or view of that name.")
        try:
            async with asyncio.timeout(request.seconds(_TABLES_SECONDS)):
                await lake.settle([relation.name for relation in relations])
        except TimeoutError:
            raise DeadlinePassed from None
        await _send_json(send, 200, {"tables": [_table(relation) for relation in relations]})

    async def schemas(self, request: Request, send: Send) -> None:
        names, lake = request.query.get("name"), self._lake
        relations = list(lake.relations.values()) if lake else []
        known = {
            relation.name: schema
            for relation in relations
            if (names is None or relation.name in names) and (schema := relation.known_schema()) is not None
        }
        await _send_json(send, 200, {"schemas": known})

    async def refresh(self, request: Request, send: Send) -> None:
        asked, name = request.decode(RefreshRequest), unquote(request.path.split("/")[2])
        seconds = request.seconds(LOAD_SECONDS)
        relation = await self._require_lake().refresh(name, trigger=asked.trigger, seconds=seconds)
        await _send_json(send, 200, {"ok": relation.error is None, **_table(relation)})

    async def probe(self, request: Request, send: Send) -> None:
        dataset = request.decode(ProbeRequest).dataset
        seconds = min(request.seconds(PROBE_SECONDS), PROBE_SECONDS)
        columns = await probe(dataset, self._settings, self._threads.probing, seconds=seconds)
        await _send_json(send, 200, {"columns": columns})

    async def stop(self, request: Request, send: Send) -> None:
        stop = request.decode(StopRequest)
        await _send_json(send, 200, {"ok": True})
        self._stop(stop.drainSeconds)

    async def sql(self, request: Request, send: Send) -> None:
        """Answer a statement; it ends when its time is up or when its reader goes away."""
        if self._deadlines.condemned:
            raise RuntimeStopping("The runtime is about to be replaced; ask again.")
        statement = request.decode(SqlRequest)
        lake, seconds, run = self._require_lake(), request.seconds(_SQL_SECONDS), Run()
        started = time.time()
        with self._deadlines.hold(time.monotonic() + seconds), self._loads.readers.reading():
            work = asyncio.create_task(answer(lake, statement, send, seconds=seconds, run=run))
            await _until_done_or_gone(work, request.receive)
        _note(self._history, lake, statement, run, started, was_left=work.cancelled())
        if run.was_cancelled or work.cancelled():
            if run.cancel_source is not None:
                await asyncio.to_thread(run.cancel_source)
            self._keep(reckon(run, self._deadlines, lambda: self._kept.is_reading))
        if not work.cancelled():
            work.result()

    def _require_lake(self) -> Lake:
        if self._lake is None:
            raise RuntimeStopping("The runtime has no configuration yet.")
        return self._lake

    def _require_secret(self, request: Request) -> None:
        given = request.headers.get("x-weir-runtime-secret", "")
        if not compare_digest(given.encode(), self._settings.secret.encode()):
            raise Unauthorized("The runtime's secret is missing or wrong.")

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _until_done_or_gone(work: "asyncio.Task[None]", receive: Receive) -> None:
    """Wait for the work; cancel it when the client leaves, for `send` swallows what nobody reads."""
    gone = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            await asyncio.wait((work,))
    finally:
        gone.cancel()


def _note(
    history: TaskHistory, lake: Lake, request: SqlRequest, run: Run, started: float, *, was_left: bool
) -> None:
    failure = "The reader left before the end." if was_left else run.failure and str(run.failure)
    history.note(
        "sql_query",
        # More than is kept, so that no cut goes through a secret.
        scrub_secrets(request.query[: 2 * MAX_INPUT], lake.secrets),
        started=started,
        trace_id=request.traceId,
        error_message=failure or None,
        error_code=run.failure.code if isinstance(run.failure, Fault) else "",
        subject=request.subject,
        format=request.format,
        rows="" if failure else str(run.row_count),
        cache=run.cache_status,
    )


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise AnswerBroken
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > _MAX_BODY:
            raise InvalidRequest(f"The body exceeds {_MAX_BODY} bytes.")
        if not message.get("more_body", False):
            return b"".join(pieces)


async def _send_json(send: Send, status: int, value: object) -> None:
    body = msgspec.json.encode(value)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _table(relation: Relation) -> dict[str, object]:
    described: RelationStatus = relation.describe()
    return {"name": relation.name, "kind": "view" if relation.is_view else "dataset", **asdict(described)}


def resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - read on every status, kept plain
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
