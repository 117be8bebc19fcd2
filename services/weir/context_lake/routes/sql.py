"""`/v1/context-lake/sql`: one query, its answer streamed as the runtime gives it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
import structlog
from litestar import Request, Response, Router, post

from weir.context_lake.formats import choose_format
from weir.context_lake.routes.sql_document import RESPONSES, QueryOperation
from weir.context_lake.sql import Answer, AnswerBroken, Query, SqlDesk, WantedQuery, check_query
from weir_shared.auth.guards import provide_principal, requires_scope
from weir_shared.errors import UnsupportedMediaType, ValidationFailed
from weir_shared.web.errors import InvalidJson, field_error_of

Receive = Callable[[], Awaitable[Any]]

log = structlog.get_logger(__name__)


@post("/sql", status_code=200, operation_class=QueryOperation, responses=RESPONSES)
async def run_sql(request: Request[Any, Any, Any]) -> Response[Any]:
    """Runs a query; a lake that sleeps is woken first, within the same budget."""
    # Not by dependencies: resolving them costs as much as the rest of the way to the runtime.
    principal, sql_desk = await provide_principal(request), cast(SqlDesk, request.app.state.sql_desk)
    query = read_query(request, await request.body(), sql_desk.most_seconds)
    return await _unless_gone(sql_desk.run_sql(principal, query), request.receive)


def read_query(request: Request[Any, Any, Any], body: bytes, most_seconds: float) -> Query:
    """Raises UnknownFormat, UnsupportedMediaType, InvalidJson, ValidationFailed."""
    return check_query(
        _wanted(request, body),
        most_seconds=most_seconds,
        form=choose_format(request.headers.get("accept", "")),
        int64=request.query_params.get("int64", "number"),
        uses_cache=not _forbids_cache(request.headers.get("cache-control", "")),
        trace_id=request.headers.get("x-request-id", ""),
    )


def _wanted(request: Request[Any, Any, Any], body: bytes) -> WantedQuery:
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type == "text/plain":
        return WantedQuery(query=body.decode())
    if media_type != "application/json":
        raise UnsupportedMediaType("A query is application/json or text/plain")
    try:
        return msgspec.json.decode(body, type=WantedQuery)
    except msgspec.ValidationError as fault:
        raise ValidationFailed([field_error_of(fault)]) from None
    except msgspec.DecodeError as fault:
        raise InvalidJson(str(fault)) from None


def _forbids_cache(cache_control: str) -> bool:
    return any(part.strip().lower() in ("no-cache", "no-store") for part in cache_control.split(","))


class StreamedAnswer(Response[Any]):
    """An answer of the runtime, sent on as it comes; it ends there when its reader goes."""

    def __init__(self, answer: Answer, receive: Receive) -> None:
        super().__init__(None)
        self._answer = answer
        self._receive = receive

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        return self._send_on

    async def _send_on(self, _: Any, __: Any, send: Any) -> None:
        sending = asyncio.create_task(self._send_all(send))
        reader = asyncio.create_task(gone(self._receive))
        try:
            await asyncio.wait({sending, reader}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, reader):
                task.cancel()
            await asyncio.wait({sending, reader})
            await self._answer.close()
        if not sending.cancelled():
            sending.result()

    async def _send_all(self, send: Any) -> None:
        async def write(chunk: bytes) -> None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

        await send({"type": "http.response.start", "status": 200, "headers": self._answer.headers})
        try:
            await self._answer.pour(write)
        except AnswerBroken as fault:
            # Without the end of the body the server cuts the connection, which is all that can be told now.
            log.warning("answer broken off", reason=str(fault))
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def gone(receive: Receive) -> None:
    """Ends when the caller has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _unless_gone(running: Awaitable[Answer], receive: Receive) -> Response[Any]:
    """The answer once it has begun; a caller who leaves before that ends the query."""
    work = asyncio.ensure_future(running)
    reader = asyncio.create_task(gone(receive))
    try:
        await asyncio.wait({work, reader}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        reader.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
    if work.cancelled():
        return Response(None, status_code=499)  # to nobody; it only names the outcome in log and metrics
    return StreamedAnswer(work.result(), receive)


routes = Router(
    "/v1/context-lake",
    route_handlers=[run_sql],
    guards=[requires_scope("lake:query")],
    tags=["context lake"],
)
