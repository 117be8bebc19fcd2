"""One request, told once: its id, its line in the log, its place in the metrics."""

import re
import time
import uuid
from typing import Any

import structlog
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from weir_shared.telemetry.metrics import HTTP_IN_FLIGHT, HTTP_REQUESTS, HTTP_SECONDS

REQUEST_ID = b"x-request-id"
ROUTE = b"x-weir-route"
UNMATCHED = "unmatched"
# In a request's state: it is counted and timed, and has no line in the log.
UNLOGGED = "unlogged"
# What a client may choose as its request id; anything else is replaced.
_ACCEPTED_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_QUIET = frozenset({"/metrics", "/live", "/ready", "/api/v1/health"})

log = structlog.get_logger("weir.request")


class RequestTelemetry:
    """Gives each request an id (the caller's, if it is well formed), and counts, times and logs the answer.

    A room tells the gateway its route template in `x-weir-route`, so that the gateway's metrics have
    templates too; the gateway sends it no further.
    """

    def __init__(self, app: ASGIApp, service: str) -> None:
        self.app = app
        self._service = service
        self._tells_route = service != "gateway"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = adopt_request_id(scope)
        seen: dict[str, Any] = {"status": 500}
        started = time.perf_counter()

        async def observed_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                seen["route"], message["headers"] = self._headers(scope, message["headers"], request_id)
            await send(message)

        HTTP_IN_FLIGHT.labels(self._service).inc()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self.app(scope, receive, observed_send)
        finally:
            HTTP_IN_FLIGHT.labels(self._service).dec()
            self._tell(scope, seen, time.perf_counter() - started)

    def _headers(self, scope: Scope, headers: Any, request_id: str) -> tuple[str, list[tuple[bytes, bytes]]]:
        kept = [pair for pair in headers if pair[0] not in (ROUTE, REQUEST_ID)]
        told = next((value.decode() for name, value in headers if name == ROUTE), None)
        route = told or scope.get("path_template") or UNMATCHED
        kept.append((REQUEST_ID, request_id.encode()))
        if self._tells_route:
            kept.append((ROUTE, route.encode()))
        return route, kept

    def _tell(self, scope: HTTPScope, seen: dict[str, Any], seconds: float) -> None:
        route, method, status = seen.get("route", UNMATCHED), scope["method"], seen["status"]
        HTTP_REQUESTS.labels(self._service, route, method, str(status)).inc()
        HTTP_SECONDS.labels(self._service, route, method).observe(seconds)
        state = scope.get("state", {})
        if route in _QUIET or UNLOGGED in state:
            return
        principal = state.get("principal")
        log.info(
            "request",
            route=route,
            method=method,
            status=status,
            ms=round(seconds * 1000, 2),
            tenant_id=principal.tenant_id if principal else None,
            actor=principal.identity if principal else None,
        )


def adopt_request_id(scope: Scope) -> str:
    """The request's id; the scope's headers carry it afterwards, whoever chose it."""
    given = next((value for name, value in scope["headers"] if name == REQUEST_ID), b"")
    if _ACCEPTED_ID.fullmatch(given):
        return given.decode()
    chosen = uuid.uuid4().hex
    headers = [pair for pair in scope["headers"] if pair[0] != REQUEST_ID]
    scope["headers"] = [*headers, (REQUEST_ID, chosen.encode())]
    return chosen
