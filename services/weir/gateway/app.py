"""The gateway's table of contents: its own routes, the relay beside them, and what they are made of."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from litestar import Litestar, Router
from litestar.middleware import DefineMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from weir.gateway.admission import Admission
from weir.gateway.audit import Trail
from weir.gateway.credentials import CredentialDesk, read_credential
from weir.gateway.doorkeeper import Doorkeeper
from weir.gateway.health import Health
from weir.gateway.openapi import MergedDocument
from weir.gateway.relay import Relay, Room, plan_rooms, with_headers
from weir.gateway.room_sessions import open_room_sessions
from weir.gateway.routes.audit import AUDIT, audit_log
from weir.gateway.routes.limits import rate_limits
from weir.gateway.routes.operations import operations
from weir.gateway.routes.schema import show_openapi
from weir.gateway.routes.sessions import local_sessions
from weir.gateway.routes.tokens import api_tokens
from weir.gateway.scrape import Scraper
from weir.gateway.tokens import put_bootstrap_token
from weir_shared.auth.keys import JWT_KEY, TICKET_KEY, load_or_create_key_pair, load_public_key
from weir_shared.auth.tickets import TicketOffice
from weir_shared.db.pool import open_database
from weir_shared.errors import Unauthorized
from weir_shared.queue.doorbell import open_doorbell
from weir_shared.settings import SettingError, Settings
from weir_shared.web.app import create_service, from_state
from weir_shared.web.errors import render_engine_error

# What the gateway answers itself, under a prefix that is otherwise the engine's.
OWN_PREFIXES = ("/api/v1/auth/", "/api/v1/rate-limits", "/api/v1/health", "/api/v1/live", "/api/v1/ready")
# Whoever asks these decides by the answer whether the gateway lives.
NEVER_REFUSED = frozenset({"/live", "/api/v1/live", "/ready", "/api/v1/ready", "/api/v1/health", "/metrics"})
PARTS = (
    "database",
    "credentials",
    "admission",
    "trail",
    "health",
    "scraper",
    "document",
    "keys",
    "session_seconds",
)
# Two short writes for each change that passes.
DATABASE_CONNECTIONS = 24
LOOPBACK = ("127.0.0.1", "::1", "localhost")

log = structlog.get_logger(__name__)


def create_app(settings: Settings) -> Litestar:
    """The gateway of these settings; it opens its connections when it is served.

    Raises UnusableKey or SettingError when it could not serve.
    """
    if settings.database_url is None or settings.redis_url is None:
        raise SettingError("The gateway needs WEIR_DATABASE_URL and WEIR_REDIS_URL; `weir up` sets both")
    local = settings.auth_mode == "local"
    rooms = plan_rooms(
        settings.lake_url, settings.engine_url, settings.sql_timeout_seconds, settings.import_max_mib
    )
    app = create_service(
        service="gateway",
        title="Weir",
        routes=[
            Router(
                "/",
                route_handlers=[api_tokens, rate_limits, audit_log],
                middleware=[DefineMiddleware(Recognition)],
            ),
            *([local_sessions] if local else []),
            operations,
            show_openapi,
        ],
        render_error=render_engine_error,
        lifespan=[_opened(settings)],
        dependencies={name: from_state(name) for name in PARTS},
        schema_path="/schema/gateway",
        own_metrics=False,
        front=lambda app: Switch(app, rooms, Doorkeeper(rooms, settings.requests_at_once)),
    )
    if local and settings.host not in LOOPBACK:
        log.warning(
            "local authentication on a public address: whoever reaches it is an admin", host=settings.host
        )
    return app


class Switch:
    """Sends a request to the gateway's own routes or to the room whose path it names, when it has a place."""

    def __init__(self, app: Litestar, rooms: list[Room], doorkeeper: Doorkeeper) -> None:
        self._app = app
        self._own: ASGIApp = app.asgi_handler
        self._rooms = rooms
        self._doorkeeper = doorkeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["type"] != "http" or path in NEVER_REFUSED:
            await self._own(scope, receive, send)
            return
        room = self._room_of(path)
        handler: ASGIApp = self._own if room is None else partial(self._app.state.relay, room, path)
        await self._doorkeeper.let_in(self._app.state.credentials, room, handler, scope, receive, send)

    def _room_of(self, path: str) -> Room | None:
        if path == AUDIT or path.startswith(OWN_PREFIXES):
            return None
        return next((room for room in self._rooms if room.own_path(path) is not None), None)


class Recognition:
    """Puts the caller of the gateway's own guarded routes into the request's state, counts the request and notes it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            credentials: CredentialDesk = scope["litestar_app"].state.credentials
            trail: Trail = scope["litestar_app"].state.trail
            try:
                principal = await credentials.recognise(read_credential(scope["headers"]))
            except Unauthorized as error:
                await trail.unrecognised(scope, error)
                raise
            scope.setdefault("state", {})["principal"] = principal
            admission: Admission = scope["litestar_app"].state.admission
            send = with_headers(send, await admission.admit(principal, scope["headers"]))
            send = (await trail.begin(principal, scope, send)).send
        await self.app(scope, receive, send)


def _opened(settings: Settings) -> Any:
    """The gateway's parts, open for as long as it serves."""

    @asynccontextmanager
    async def opened(app: Litestar) -> AsyncGenerator[None, None]:
        assert settings.database_url and settings.redis_url
        async with AsyncExitStack() as stack:
            state = app.state
            state.database = await open_database(settings.database_url, size=DATABASE_CONNECTIONS)
            stack.push_async_callback(state.database.close)
            doorbell = await open_doorbell(settings.redis_url)
            stack.push_async_callback(doorbell.close)
            sessions = await stack.enter_async_context(open_room_sessions())
            session = sessions.ample
            tickets = TicketOffice(load_or_create_key_pair(settings.keys_dir, TICKET_KEY))
            state.keys, state.session_seconds = _session_keys(settings), settings.session_seconds
            state.credentials = CredentialDesk(state.database, doorbell, _verifying_key(settings))
            state.credentials.start()
            stack.push_async_callback(state.credentials.stop)
            state.admission = Admission(state.database, doorbell)
            state.admission.start()
            stack.push_async_callback(state.admission.stop)
            state.trail = Trail(state.database)
            state.relay = Relay(sessions, state.credentials, state.admission, state.trail, tickets)
            state.health = Health(
                database=state.database,
                dsn=settings.database_url,
                doorbell=doorbell,
                session=session,
                tickets=tickets,
                lake_url=settings.lake_url,
                engine_url=settings.engine_url,
            )
            rooms = {"context-lake": settings.lake_url, "agent-engine": settings.engine_url}
            state.scraper = Scraper(session, state.health, rooms | {"worker": settings.worker_url})
            state.document = MergedDocument(session, app.openapi_schema.to_schema(), rooms)
            if settings.bootstrap_admin_token:
                await put_bootstrap_token(state.database, settings.bootstrap_admin_token)
            yield

    return opened


def _session_keys(settings: Settings) -> Any:
    return load_or_create_key_pair(settings.keys_dir, JWT_KEY) if settings.auth_mode == "local" else None


def _verifying_key(settings: Settings) -> Ed25519PublicKey:
    if settings.auth_mode == "local":
        return load_or_create_key_pair(settings.keys_dir, JWT_KEY).public
    assert settings.jwt_public_key_path
    return load_public_key(settings.jwt_public_key_path)
