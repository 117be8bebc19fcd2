"""Handing a request on to its room and the room's answer back, both as they come.

A raw ASGI handler: it runs for every byte of every answer. When the caller leaves, the room's connection is
closed, which is how the room learns of it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from weir.gateway.admission import Admission
from weir.gateway.audit import Noted, Trail
from weir.gateway.credentials import CREDENTIAL_HEADERS, CredentialDesk, MissingCredential, read_credential
from weir.gateway.room_sessions import RoomSessions
from weir_shared.auth.principal import ANONYMOUS, Principal
from weir_shared.auth.tickets import HEADER, Audience, TicketOffice
from weir_shared.errors import (
    DeadlineExceeded,
    Forbidden,
    PayloadTooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
    WeirError,
)
from weir_shared.web.errors import (
    Renderer,
    error_headers,
    render_engine_error,
    render_lake_error,
    render_openai_error,
)
from weir_shared.web.read_ahead import pieces_of

ASGIScope = dict[str, Any]
Headers = list[tuple[bytes, bytes]]
Rest = asyncio.Queue[bytes | WeirError | None]

MAX_BODY_BYTES = 1024 * 1024
# What the form of an upload may take besides its file.
FORM_BYTES = 64 * 1024
# A long body of which nothing comes for so long has lost its sender.
UPLOAD_SILENCE_SECONDS = 60
# Above a room's own budget, so that the room is the one that says what took too long.
ROOM_SLACK_SECONDS = 10
HOOK_SECONDS = 30
# A turn has its own, shorter time; it stands still while somebody is asked for approval.
TURN_SECONDS = 3600
# A stream that has been silent for this long has lost its sender: rooms send a comment every 15 s.
STREAM_SILENCE_SECONDS = 60
MOVE_SECONDS = 1
QUEUED_CHUNKS = 4

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


class UploadStalled(WeirError):
    status: ClassVar[int] = 408
    code = "upload_stalled"

    def __init__(self) -> None:
        super().__init__(f"Nothing more of the body has come for {UPLOAD_SILENCE_SECONDS} seconds")


class Allowance(Struct, frozen=True, kw_only=True):
    """How large a body may be, and how long it may take.

    A long one has no time of its own, only for each step; `answer_seconds` begin when it is all there.
    """

    max_bytes: int = MAX_BODY_BYTES
    words: str = "The body is larger than 1 MiB"
    is_long: bool = False


class Upload(Struct, frozen=True, kw_only=True):
    """A route of a room that takes files, by the room's own path."""

    method: str
    path: str
    """A segment `*` is any one."""
    allowance: Allowance

    def fits(self, path: str) -> bool:
        wanted, given = self.path.split("/"), path.split("/")
        return len(wanted) == len(given) and all(
            want in ("*", have) for want, have in zip(wanted, given, strict=True)
        )


USUAL = Allowance()
_KNOWLEDGE_FILE = Allowance(
    max_bytes=50 * 1024 * 1024 + FORM_BYTES,
    words="A file of a knowledge base is at most 50 MiB",
    is_long=True,
)
KNOWLEDGE_FILES = (
    Upload(method="POST", path="/api/v1/knowledge-bases/*/files", allowance=_KNOWLEDGE_FILE),
    Upload(method="POST", path="/api/v1/agents/*/knowledge/files", allowance=_KNOWLEDGE_FILE),
)


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
    uploads: Sequence[Upload] = ()
    bars_pages: bool = False
    """Whether pages of other origins are refused: MCP's rule, against names that are bound anew."""
    is_open: bool = False
    """Whether the room itself tells who may: no credential is asked for, or looked at."""

    def own_path(self, path: str) -> str | None:
        """The room's path for a caller's, or None when it is not this room's."""
        for outer, inner in self.prefixes:
            if path == outer or path.startswith(outer + "/"):
                return inner + path[len(outer) :]
        return None

    def allowance_of(self, method: str, path: str) -> Allowance:
        own = (self.own_path(path) or path).rstrip("/")
        found = (upload for upload in self.uploads if upload.method == method and upload.fits(own))
        return next((upload.allowance for upload in found), USUAL)


def plan_rooms(lake_url: str, engine_url: str, sql_seconds: int, import_mib: int) -> list[Room]:
    """The rooms in the order in which their prefixes are tried."""
    return [
        Room(
            audience="context-lake",
            base_url=lake_url,
            # The token in the path is the credential.
            prefixes=[("/api/hooks/cl", "/api/hooks/cl")],
            render_error=render_lake_error,
            answer_seconds=HOOK_SECONDS,
            is_open=True,
        ),
        Room(
            audience="context-lake",
            base_url=lake_url,
            prefixes=[
                ("/v1/context-lake", "/v1/context-lake"),
                ("/api/v1/context-lake", "/v1/context-lake"),
            ],
            render_error=render_lake_error,
            answer_seconds=sql_seconds + ROOM_SLACK_SECONDS,
            uploads=[imports_of(import_mib)],
        ),
        Room(
            audience="agent-engine",
            base_url=engine_url,
            # Whoever knows the secret of the path may.
            prefixes=[("/api/v1/webhooks", "/api/v1/webhooks")],
            render_error=render_engine_error,
            answer_seconds=HOOK_SECONDS,
            is_open=True,
        ),
        Room(
            audience="agent-engine",
            base_url=engine_url,
            prefixes=[("/api/v1", "/api/v1")],
            render_error=render_engine_error,
            answer_seconds=TURN_SECONDS,
            public_paths=frozenset({"/api/v1/models/registry", "/api/v1/models/registry/providers"}),
            uploads=KNOWLEDGE_FILES,
        ),
        Room(
            audience="agent-engine",
            base_url=engine_url,
            prefixes=[("/v1/chat", "/v1/chat"), ("/v1/models", "/v1/models")],
            render_error=render_openai_error,
            answer_seconds=TURN_SECONDS,
        ),
        Room(
            audience="agent-engine",
            base_url=engine_url,
            prefixes=[("/mcp", "/mcp")],
            render_error=render_engine_error,
            answer_seconds=TURN_SECONDS,
            bars_pages=True,
        ),
    ]


def imports_of(max_mib: int) -> Upload:
    """The lake's imports: a file of that size, and the rest of its form."""
    return Upload(
        method="POST",
        path="/v1/context-lake/imports",
        allowance=Allowance(
            max_bytes=max_mib * 1024 * 1024 + FORM_BYTES,
            words=f"A file to import is at most {max_mib} MiB",
            is_long=True,
        ),
    )


class Body:
    """A caller's body on its way to a room: one piece, or as it comes."""

    def __init__(self, first: bytes, rest: Rest | None, allowance: Allowance) -> None:
        self._first = first
        self._rest = rest
        self._allowance = allowance
        self.is_arriving = allowance.is_long and rest is not None

    def content(self, limit: asyncio.Timeout, answer_seconds: float) -> bytes | AsyncIterator[bytes] | None:
        """What is sent; a long one moves the limit as it comes."""
        if self._rest is None:
            return self._first or None
        return self._joined(self._rest, limit, answer_seconds)

    async def _joined(
        self, rest: Rest, limit: asyncio.Timeout, answer_seconds: float
    ) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        chunk: bytes | WeirError | None = self._first
        while chunk is not None:
            if isinstance(chunk, WeirError):
                raise chunk
            if self._allowance.is_long:
                limit.reschedule(loop.time() + UPLOAD_SILENCE_SECONDS)
            yield chunk
            chunk = await rest.get()
        if self._allowance.is_long:
            self.is_arriving = False
            limit.reschedule(loop.time() + answer_seconds)


class Relay:
    """Authenticates, hands on and streams back."""

    def __init__(
        self,
        sessions: RoomSessions,
        credentials: CredentialDesk,
        admission: Admission,
        trail: Trail,
        tickets: TicketOffice,
    ) -> None:
        self._sessions = sessions
        self._credentials = credentials
        self._admission = admission
        self._trail = trail
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
        if room.bars_pages:
            refuse_other_origins(scope["headers"])
        principal = await self._recognise(room, path, scope)
        scope.setdefault("state", {})["principal"] = principal
        send = with_headers(send, await self._admission.admit(principal, scope["headers"]))
        noted = await self._trail.begin(principal, scope, send)
        try:
            await self._pass(room, path, scope, principal, receive, noted)
        except WeirError as error:
            await noted.ended(error.status)
            raise

    async def _pass(
        self, room: Room, path: str, scope: ASGIScope, principal: Principal, receive: Any, noted: Noted
    ) -> None:
        refuse_encoded(scope["headers"])
        allowance = room.allowance_of(scope["method"], path)
        first, rest = await _request_body(scope, receive, allowance)
        if rest is None:
            noted.saw(scope, first)
        exchange = asyncio.create_task(
            self._exchange(room, path, scope, principal, Body(first, rest, allowance), noted.send)
        )
        caller = asyncio.create_task(_follow_caller(receive, rest, len(first), allowance))
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
        if room.is_open:
            return ANONYMOUS
        try:
            return await self._credentials.recognise(read_credential(scope["headers"]))
        except Unauthorized as error:
            if path in room.public_paths and isinstance(error, MissingCredential):
                return ANONYMOUS
            await self._trail.unrecognised(scope, error)
            raise

    async def _exchange(
        self, room: Room, path: str, scope: ASGIScope, principal: Principal, body: Body, send: Any
    ) -> None:
        try:
            with self._sessions.for_answer(room.audience) as session:
                async with (
                    asyncio.timeout(room.answer_seconds) as limit,
                    session.request(
                        scope["method"],
                        _target(room, path, scope),
                        headers=_forwarded(scope["headers"], self._tickets.issue(principal, room.audience)),
                        data=body.content(limit, room.answer_seconds),
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
            raise (UploadStalled() if body.is_arriving else RoomSilent()) from None
        except aiohttp.ClientError as fault:
            raise _refusal_of(fault) from None


def with_headers(send: Any, headers: Mapping[str, str]) -> Any:
    """Sends an answer with these headers besides its own."""
    if not headers:
        return send
    added = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def send_with_them(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *added]
        await send(message)

    return send_with_them


def refuse_encoded(headers: Headers) -> None:
    """Raises UnsupportedMediaType for a compressed body: no route reads one, and none can be a bomb."""
    encodings = [value for name, value in headers if name == b"content-encoding"]
    if any(encoding.strip().lower() not in (b"", b"identity") for encoding in encodings):
        raise UnsupportedMediaType("Bodies are taken as they are; send it without Content-Encoding")


def refuse_other_origins(headers: Headers) -> None:
    """Raises Forbidden for what a browser sends on behalf of a page that is not from here."""
    told = dict(headers)
    origin = told.get(b"origin")
    if origin is not None and origin.partition(b"://")[2].lower() != told.get(b"host", b"").lower():
        raise Forbidden("A page of another origin may not use this; programs send no Origin")


async def _stream_back(response: aiohttp.ClientResponse, limit: asyncio.Timeout, send: Any) -> None:
    silence = _Silence(limit) if response.content_type == "text/event-stream" else None
    async for chunk in pieces_of(response) if silence is None else response.content.iter_any():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if silence is not None:
            silence.was_broken()
    await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Silence:
    """Moves the limit of a stream: not at each token, which costs more than the token, but once in a while."""

    def __init__(self, limit: asyncio.Timeout) -> None:
        self._limit = limit
        self._now = asyncio.get_running_loop().time
        self._moved_at = 0.0
        self.was_broken()

    def was_broken(self) -> None:
        now = self._now()
        if now - self._moved_at >= MOVE_SECONDS:
            self._moved_at = now
            self._limit.reschedule(now + STREAM_SILENCE_SECONDS + MOVE_SECONDS)


async def _request_body(scope: ASGIScope, receive: Any, allowance: Allowance) -> tuple[bytes, Rest | None]:
    """The body's first piece, nearly always the whole of it; else also the queue of its rest."""
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if length.isdigit() and int(length) > allowance.max_bytes:
        raise PayloadTooLarge(allowance.words)
    first = await receive()
    content = first.get("body", b"")
    if not first.get("more_body", False):
        return content, None
    return content, asyncio.Queue(maxsize=QUEUED_CHUNKS)


async def _follow_caller(receive: Any, rest: Rest | None, size: int, allowance: Allowance) -> None:
    """Feeds what is left of the body, then waits; ends when the caller is gone."""
    while (message := await receive())["type"] != "http.disconnect":
        chunk = message.get("body", b"")
        size += len(chunk)
        if rest is None:
            continue
        if size > allowance.max_bytes:
            await rest.put(PayloadTooLarge(allowance.words))
            rest = None
        elif chunk:
            await rest.put(chunk)
        if rest is not None and not message.get("more_body", False):
            await rest.put(None)
            rest = None


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
