"""Running one query: a place, a runtime that is awake and up to date, and its answer as it comes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from typing import Any, Literal

import aiohttp
import msgspec
import structlog
from msgspec import UNSET, Struct, UnsetType

from weir.context_lake import measures
from weir.context_lake.admission import Admission
from weir.context_lake.formats import UNCAPPED, Format
from weir.context_lake.refusals import RuntimeLost, error_of
from weir.context_lake.runtimes import RuntimeGone, RuntimeRefused
from weir.context_lake.vms.waking import Vms
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import DatabaseUnavailable
from weir_shared.errors import DeadlineExceeded, FieldError, ValidationFailed, WeirError
from weir_shared.web.read_ahead import pieces_of

DEFAULT_ROWS = 10_000
MAX_ROWS = 1_000_000
# Of rows as one JSON document, where the caller has not said how many rows he wants.
DEFAULT_BYTES = 32 * 1024 * 1024
# A table of text is laid out as a whole.
MAX_TEXT_ROWS = 10_000
MAX_SECONDS = 180
# A boot that goes on while its query is given up.
RETRY_AFTER_SECONDS = 15

# The names that a caller may use in a statement, in any letter case; None: every name of the lake.
VisibleTables = Callable[[Principal], Awaitable[Collection[str] | None]]
Int64 = Literal["number", "string"]
Phase = Literal["queued", "provisioning", "executing"]

log = structlog.get_logger(__name__)


class WantedQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A query as a request has it; `sql` is another name of `query`."""

    query: str | UnsetType = UNSET
    sql: str | UnsetType = UNSET
    parameters: list[Any] | dict[str, Any] | None = None
    maxRows: int | UnsetType = UNSET
    timeoutSeconds: float = MAX_SECONDS


class Query(Struct, frozen=True, kw_only=True):
    """A query that may be run."""

    text: str
    parameters: list[Any] | dict[str, Any] | None = None
    max_rows: int | None = DEFAULT_ROWS
    """None: every row."""
    max_bytes: int | None = None
    int64: Int64 = "number"
    seconds: float = MAX_SECONDS
    format: Format = "json"
    uses_cache: bool = True
    """False: the answer is made anew."""
    trace_id: str = ""


class QueryTimedOut(DeadlineExceeded):
    """The budget is spent; `phase` says on what."""

    def __init__(self, seconds: float, phase: Phase) -> None:
        super().__init__(
            f"The query did not finish within {seconds:g} seconds",
            details={"phase": phase},
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)} if phase == "provisioning" else None,
        )


class AnswerBroken(Exception):
    """The answer broke off after its first byte; only a broken connection tells the caller so."""


def check_query(
    wanted: WantedQuery,
    *,
    most_seconds: float,
    form: Format = "json",
    int64: str = "number",
    uses_cache: bool = True,
    trace_id: str = "",
) -> Query:
    """Raises ValidationFailed with every fault."""
    errors: list[FieldError] = []
    if int64 not in ("number", "string"):
        errors.append(FieldError(path="int64", message="int64 must be number or string"))
    text = wanted.query if wanted.query is not UNSET else wanted.sql
    if wanted.query is not UNSET and wanted.sql is not UNSET:
        errors.append(FieldError(path="sql", message="sql and query are one field: send one of them"))
    if text is UNSET:
        errors.append(FieldError(path="query", message="query is required", code="required"))
    elif not text.strip():
        errors.append(FieldError(path="query", message="query must not be empty", code="required"))
    errors += _faults_of_max_rows(wanted.maxRows, form)
    if not 1 <= wanted.timeoutSeconds <= MAX_SECONDS:
        message = f"timeoutSeconds must be between 1 and {MAX_SECONDS}"
        errors.append(FieldError(path="timeoutSeconds", message=message))
    if errors:
        raise ValidationFailed(errors)
    return Query(
        text=str(text),
        parameters=wanted.parameters,
        max_rows=_rows_of(wanted.maxRows, form),
        max_bytes=DEFAULT_BYTES if form == "json" and wanted.maxRows is UNSET else None,
        int64="string" if int64 == "string" else "number",
        seconds=min(wanted.timeoutSeconds, most_seconds),
        format=form,
        uses_cache=uses_cache,
        trace_id=trace_id,
    )


def _faults_of_max_rows(wanted: int | UnsetType, form: Format) -> list[FieldError]:
    if wanted is UNSET:
        return []
    most = None if form in UNCAPPED else MAX_TEXT_ROWS if form == "text" else MAX_ROWS
    if most is None:
        is_right, told = 1 <= wanted < 2**63, "maxRows must be at least 1"
    else:
        is_right, told = 1 <= wanted <= most, f"maxRows must be between 1 and {most}"
    return [] if is_right else [FieldError(path="maxRows", message=told)]


def _rows_of(wanted: int | UnsetType, form: Format) -> int | None:
    if wanted is not UNSET:
        return wanted
    return None if form in UNCAPPED else DEFAULT_ROWS


class SqlDesk:
    """Runs the queries of this process."""

    def __init__(
        self,
        vms: Vms,
        *,
        most_seconds: float,
        activity_seconds: float,
        visible: VisibleTables,
    ) -> None:
        """`visible` tells which tables a caller may name."""
        self.most_seconds = most_seconds
        self._visible = visible
        self._vms = vms
        self._admission = Admission()
        self._activity_seconds = activity_seconds
        self._noted: dict[str, float] = {}

    async def run_sql(self, principal: Principal, query: Query) -> "Answer":
        """The answer once it has begun; whoever gets it reads it or closes it.

        Raises VmFailed, TooManyQueries, QueryTimedOut, or what the runtime says of the statement.
        """
        run = _Run(principal, query)
        try:
            async with asyncio.timeout_at(run.deadline), AsyncExitStack() as stack:
                await stack.enter_async_context(self._admission.place(run.tenant_id))
                run.tables = await self._visible(principal)
                response = await self._begin(run, stack)
                await self._note_activity(run.tenant_id)
                return Answer(response, run, stack.pop_all())
        except TimeoutError:
            run.observe("timeout")
            raise QueryTimedOut(query.seconds, run.phase) from None
        except WeirError as error:
            run.observe(error.code)
            raise

    async def _begin(self, run: "_Run", stack: AsyncExitStack) -> aiohttp.ClientResponse:
        """Asks the runtime; one that is gone before its first byte is replaced and asked once more."""
        was_cold = False
        for cause in ("query", "lost"):
            ready = await self._vms.find_ready(run.tenant_id)
            if ready is None:
                was_cold, run.phase = True, "provisioning"
                ready = await self._vms.ensure_running(run.tenant_id, cause=cause)
            run.phase = "executing"
            body = run.body(cold_start=was_cold)
            try:
                return await stack.enter_async_context(
                    ready.client.request("POST", "/sql", body, seconds=run.seconds_left)
                )
            except RuntimeRefused as refusal:
                raise error_of(refusal) from None
            except RuntimeGone as fault:
                epoch = ready.vm.epoch
                log.warning("runtime lost", tenant_id=run.tenant_id, epoch=epoch, reason=str(fault))
                await self._vms.give_up(ready.vm)
        raise RuntimeLost

    async def _note_activity(self, tenant_id: str) -> None:
        """Keeps the runtime awake; not for every query, that would be a write a read."""
        now = time.monotonic()
        if now - self._noted.get(tenant_id, -self._activity_seconds) < self._activity_seconds:
            return
        self._noted[tenant_id] = now
        try:
            await self._vms.note_activity(tenant_id)
        except DatabaseUnavailable:
            # The query has its answer; nothing is put to sleep without the database either.
            del self._noted[tenant_id]


class Answer:
    """A runtime's answer that has begun: its headers, and its bytes as they come."""

    def __init__(self, response: aiohttp.ClientResponse, run: "_Run", held: AsyncExitStack) -> None:
        self._response = response
        self._run = run
        self._held = held

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Those that belong to the body."""
        return [
            (name.encode(), self._response.headers[name].encode())
            for name in ("content-type", "content-length", "results-cache-status")
            if name in self._response.headers
        ] + [(b"vary", b"accept")]

    async def pour(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Writes the bytes on, as large as they arrive and as fast as they are taken.

        Raises AnswerBroken when they end too early or too late.
        """
        try:
            async with asyncio.timeout_at(self._run.deadline):
                async for chunk in pieces_of(self._response):
                    measures.SQL_BYTES.inc(len(chunk))
                    await write(chunk)
        except TimeoutError:
            self._run.observe("timeout")
            raise AnswerBroken("the time is up") from None
        except (aiohttp.ClientError, OSError) as fault:
            self._run.observe("broken")
            raise AnswerBroken(type(fault).__name__) from None
        self._run.observe("ok")

    async def close(self) -> None:
        """Gives back the place and the connection; a query that still runs is ended by that."""
        self._run.observe("left")
        await self._held.aclose()


class _Run:
    """One query's way through the desk."""

    def __init__(self, principal: Principal, query: Query) -> None:
        self.tenant_id = principal.tenant_id
        self.tables: Collection[str] | None = None
        """What the statement may name; None: everything."""
        self._subject = principal.identity
        self.phase: Phase = "queued"
        self.deadline = asyncio.get_running_loop().time() + query.seconds
        self._query = query
        self._started = time.monotonic()
        self._is_observed = False

    @property
    def seconds_left(self) -> float:
        return self.deadline - asyncio.get_running_loop().time()

    def body(self, *, cold_start: bool) -> bytes:
        return msgspec.json.encode(
            {
                "query": self._query.text,
                "parameters": self._query.parameters,
                "maxRows": self._query.max_rows,
                "maxBytes": self._query.max_bytes,
                "int64": self._query.int64,
                "format": self._query.format,
                "tables": None if self.tables is None else sorted(self.tables),
                "subject": self._subject,
                "traceId": self._query.trace_id,
                "useCache": self._query.uses_cache,
                "coldStart": cold_start,
            }
        )

    def observe(self, result: str) -> None:
        """Counts the query under its first result."""
        if self._is_observed:
            return
        self._is_observed = True
        measures.SQL_SECONDS.labels(result).observe(time.monotonic() - self._started)
