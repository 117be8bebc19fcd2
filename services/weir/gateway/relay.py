"""Handing a request on to its room and the room's answer back, both as they come.

A raw ASGI handler: it runs for every byte of every answer. When the caller leaves, the room's connection is
closed, which is how the room learns of it.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from weir.gateway.credentials import CREDENTIAL_HEADERS, CredentialDesk, MissingCredential, read_credential
from weir_shared.auth.principal import ANONYMOUS, Principal
from weir_shared.auth.tickets import HEADER, Audience, TicketOffice
from weir_shared.errors import DeadlineExceeded, PayloadTooLarge, Unavailable, WeirError
from weir_shared.web.errors import Renderer, error_headers, render_engine_error, render_lake_error

ASGIScope = dict[str, Any]
Headers = list[tuple[bytes, bytes]]

MAX_BODY_BYTES = 1024 * 1024
CONNECT_SECONDS = 5
# Above a room's own budget, so that the room is the one that says what took too long.
ROOM_SLACK_SECONDS = 10
# A stream that has been silent for this long has lost its sender: rooms send a comment every 15 s.
STREAM_SILENCE_SECONDS = 60
READ_BUFFER_BYTES = 1024 * 1024
QUEUED_CHUNKS = 4
KEEPALIVE_SECONDS = 30

# Hop-by-hop, ours, or said anew by the next server (RFC 9110 §7.6.1).
_NOT_FORWARDED = CREDENTIAL_HEADERS | {
    b"connection",
    b"content-length",
    b"expect",
    b"host",
    b"keep-alive",
    b"proxy-authorization",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
_NOT_RETURNED = frozenset({b"connection", b"date", b"keep-alive", b"server", b"transfer-encoding"})


class RoomSilent(DeadlineExceeded):
    def __init__(self) -> None:
        super().__init__("The service did not answer in time")


class RoomUnreachable(Unavailable):
    def __init__(self) -> None:
        super().__init__("The service cannot be reached; try again shortly", headers={"Retry-After": "1"})


class Room(Struct, frozen=True, kw_only=True):
    """A room behind the gateway: what is asked there, and how it speaks.

    `prefixes` map the path that a caller uses to the room's own. `answer_seconds` is above the room's own
    budget, so that the room is the one that says why it took too long.
    """

    audience: Audience
    base_url: str
    prefixes: Sequence[tuple[str, str]]
    render_error: Renderer
    answer_seconds: float
    public_paths: frozenset[str] = frozenset()

    def own_path(self, path: str) -> str | None:
        """The room's path for a caller's, or None when it is not this room's."""
        for outer, inner in self.prefixes:
            if path == outer or path.startswith(outer + "/"):
                return inner + path[len(outer) :]
        return None


def plan_rooms(lake_url: str, engine_url: str, sql_seconds: int) -> list[Room]:
    """The rooms in the order in which their prefixes are tried."""
    return [
        Room(
            audience="context-lake",
            base_url=lake_url,
            prefixes=[
                ("/v1/context-lake", "/v1/context-lake"),
                ("/api/v1/context-lake", "/v1/context-lake"),
            ],
            render_error=render_lake_error,
            answer_seconds=sql_seconds + ROOM_SLACK_SECONDS,
        ),
        Room(
            audience="agent-engine",
            base_url=engine_url,
            prefixes=[("/api/v1", "/api/v1")],
            render_error=render_engine_error,
            answer_seconds=3600,
            public_paths=frozenset({"/api/v1/models/registry", "/api/v1/models/registry/providers"}),
        ),
    ]


class Relay:
    """Authenticates, hands on and streams back."""

    def __init__(
        self, session: aiohttp.ClientSession, credentials: CredentialDesk, tickets: TicketOffice
    ) -> None:
        self._session = session
        self._credentials = credentials
        self._tickets = tickets

    async def __call__(self, room: Room, path: str, scope: ASGIScope, receive: Any, send: Any) -> None:
        started = False

        async def observed_send(message: dict[str, Any]) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._hand_on(room, path, scope, receive, observed_send)
        except WeirError as error:
            if started:
                # Part of an answer is out: only a broken connection tells that the rest is missing.
                raise
            await send_error(error, room.render_error, scope, send)

    async def _hand_on(self, room: Room, path: str, scope: ASGIScope, receive: Any, send: Any) -> None:
        principal = await self._recognise(room, path, scope)
        scope.setdefault("state", {})["principal"] = principal
        body, rest, received = await _request_body(scope, receive)
        exchange = asyncio.create_task(self._exchange(room, path, scope, principal, body, send))
        caller = asyncio.create_task(_follow_caller(receive, rest, received))
        try:
            await asyncio.wait({exchange, caller}, return_when=asyncio.FIRST_COMPLETED)
            if exchange.done():
                exchange.result()
        finally:
            for task in (exchange, caller):
                task.cancel()
                with suppress(asyncio.CancelledError, WeirError):
                    await task

    async def _recognise(self, room: Room, path: str, scope: ASGIScope) -> Principal:
        try:
            return await self._credentials.recognise(read_credential(scope["headers"]))
        except MissingCredential:
            if path in room.public_paths:
                return ANONYMOUS
            raise

    async def _exchange(
        self, room: Room, path: str, scope: ASGIScope, principal: Principal, body: "Body", send: Any
    ) -> None:
        try:
            async with (
                asyncio.timeout(room.answer_seconds) as limit,
                self._session.request(
                    scope["method"],
                    _target(room, path, scope),
                    headers=_forwarded(scope["headers"], self._tickets.issue(principal, room.audience)),
                    data=body,
                    allow_redirects=False,
                ) as response,
            ):
                await send(
                    {
                        "type": "http.response.start",
                        "status": response.status,
                        "headers": _returned(response.raw_headers),
                    }
                )
                await _stream_back(response, limit, send)
        except TimeoutError:
            raise RoomSilent from None
        except aiohttp.ClientError as fault:
            raise _refusal_of(fault) from None


async def _stream_back(response: aiohttp.ClientResponse, limit: asyncio.Timeout, send: Any) -> None:
    loop = asyncio.get_running_loop()
    streaming = response.content_type == "text/event-stream"
    if streaming:
        limit.reschedule(loop.time() + STREAM_SILENCE_SECONDS)
    async for chunk in response.content.iter_any():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if streaming:
            limit.reschedule(loop.time() + STREAM_SILENCE_SECONDS)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


Body = bytes | AsyncIterator[bytes] | None
Rest = asyncio.Queue[bytes | WeirError | None]


async def _request_body(scope: ASGIScope, receive: Any) -> tuple[Body, Rest | None, int]:
    """A body of one piece as bytes (nearly every one); a longer one as a stream fed by a queue of its rest.

    Third comes how many bytes have been received.
    """
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        raise _TooLarge
    first = await receive()
    content = first.get("body", b"")
    if not first.get("more_body", False):
        return content or None, None, len(content)
    rest: Rest = asyncio.Queue(maxsize=QUEUED_CHUNKS)
    return _joined(content, rest), rest, len(content)


async def _joined(first: bytes, rest: Rest) -> AsyncIterator[bytes]:
    yield first
    while (chunk := await rest.get()) is not None:
        if isinstance(chunk, WeirError):
            raise chunk
        yield chunk


async def _follow_caller(receive: Any, rest: Rest | None, size: int) -> None:
    """Feeds what is left of the body, then waits; ends when the caller is gone."""
    while (message := await receive())["type"] != "http.disconnect":
        chunk = message.get("body", b"")
        size += len(chunk)
        if rest is None:
            continue
        if size > MAX_BODY_BYTES:
            await rest.put(_TooLarge())
            rest = None
        elif chunk:
            await rest.put(chunk)
        if rest is not None and not message.get("more_body", False):
            await rest.put(None)
            rest = None


class _TooLarge(PayloadTooLarge):
    def __init__(self) -> None:
        super().__init__("The body is larger than 1 MiB")


def _refusal_of(fault: aiohttp.ClientError) -> WeirError:
    cause = fault.__cause__
    return cause if isinstance(cause, WeirError) else RoomUnreachable()


def _target(room: Room, path: str, scope: ASGIScope) -> URL:
    # The path as it was sent, still percent-encoded: decoding is the room's to do, once.
    raw = scope["raw_path"].decode("latin-1")
    inner = room.own_path(raw) or room.own_path(path) or path
    query = scope["query_string"].decode("latin-1")
    return URL(f"{room.base_url}{inner}{'?' + query if query else ''}", encoded=True)


def _forwarded(headers: Headers, ticket: str) -> list[tuple[str, str]]:
    kept = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name not in _NOT_FORWARDED and not name.startswith(b"x-weir-")
    ]
    return [*kept, (HEADER, ticket)]


def _returned(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    return [(name.lower(), value) for name, value in headers if name.lower() not in _NOT_RETURNED]


async def send_error(error: WeirError, render: Renderer, scope: ASGIScope, send: Any) -> None:
    request_id = next((value.decode() for name, value in scope["headers"] if name == b"x-request-id"), "")
    content = msgspec.json.encode(render(error, request_id))
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in error_headers(error).items()),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": False})


def open_relay_session() -> aiohttp.ClientSession:
    """The client of the rooms: bytes pass as they are, time-outs are the relay's own."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        auto_decompress=False,
        read_bufsize=READ_BUFFER_BYTES,
        skip_auto_headers={"User-Agent", "Content-Type", "Accept", "Accept-Encoding"},
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )
