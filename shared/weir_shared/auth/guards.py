"""Guards: what a route asks of its caller. A route that declares none stops the service at start-up."""

from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.routes import HTTPRoute

from weir_shared.auth.principal import Principal
from weir_shared.errors import Forbidden, Unauthorized

Connection = ASGIConnection[Any, Any, Any, Any]
# Asynchronous, though none awaits: Litestar sends a plain function to a thread, for every request.
Guard = Callable[[Connection, BaseRouteHandler], Awaitable[None]]

_MARK = "__weir_scopes__"


class UnguardedRoute(Exception):
    """A route without a guard of ours; a fault of the code, found at start-up."""


def requires_scope(*scopes: str) -> Guard:
    """Lets pass who holds one of the scopes (or `admin`); the refusal names the first."""

    async def guard(connection: Connection, _: BaseRouteHandler) -> None:
        principal = principal_in(connection)
        if principal is None or principal.actor == "anonymous":
            raise Unauthorized("Authentication is required")
        if not any(principal.may(scope) for scope in scopes):
            raise Forbidden(f"Token does not have '{scopes[0]}' scope")

    setattr(guard, _MARK, scopes)
    return guard


async def requires_caller(connection: Connection, _: BaseRouteHandler) -> None:
    """Lets pass any authenticated caller, whatever its scopes."""
    principal = principal_in(connection)
    if principal is None or principal.actor == "anonymous":
        raise Unauthorized("Authentication is required")


async def open_to_all(_: Connection, __: BaseRouteHandler) -> None:
    """Says that a route is meant to be public."""


async def checked_by_handler(_: Connection, __: BaseRouteHandler) -> None:
    """Says that the route's own handler reads the credential and refuses a wrong one."""


for _guard in (requires_caller, open_to_all, checked_by_handler):
    setattr(_guard, _MARK, ())


def principal_in(connection: Connection) -> Principal | None:
    return connection.scope.get("state", {}).get("principal")


async def provide_principal(request: Connection) -> Principal:
    """The caller, for handlers that name it; behind a guard there always is one."""
    principal = principal_in(request)
    if principal is None:
        raise Unauthorized("Authentication is required")
    return principal


def scopes_of(handler: HTTPRouteHandler) -> tuple[str, ...] | None:
    """The scopes that open a route: () is any caller or nobody in particular, None is no guard at all."""
    guards = [guard for layer in handler.ownership_layers for guard in layer.guards or ()]
    marks = [getattr(guard, _MARK) for guard in guards if hasattr(guard, _MARK)]
    return marks[-1] if marks else None


def is_open_to_all(handler: HTTPRouteHandler) -> bool:
    """Whether a route asks for no credential: its innermost guard of ours is `open_to_all`."""
    guards = [guard for layer in handler.ownership_layers for guard in layer.guards or ()]
    ours = [guard for guard in guards if hasattr(guard, _MARK)]
    return bool(ours) and ours[-1] is open_to_all


def refuse_unguarded_routes(app: Litestar) -> Litestar:
    """Raises UnguardedRoute when a handler of the app declares no guard of ours."""
    for route in app.routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            # Litestar answers OPTIONS by itself and tells only what is allowed.
            if handler.http_methods == {"OPTIONS"}:
                continue
            if scopes_of(handler) is None:
                raise UnguardedRoute(f"{sorted(handler.http_methods)} {route.path} declares no guard")
    return app
