"""How a service is assembled, so that all of them answer, guard, measure and document alike."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.middleware import DefineMiddleware
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import ASGIApp, ControllerRouterHandler

from weir_shared.auth.guards import open_to_all, provide_principal, refuse_unguarded_routes
from weir_shared.auth.middleware import TicketMiddleware
from weir_shared.auth.tickets import TicketInspector
from weir_shared.telemetry.middleware import RequestTelemetry
from weir_shared.web.documented import Dialect, describe_refusals
from weir_shared.web.errors import (
    Renderer,
    error_handler,
    render_engine_error,
    render_lake_error,
    render_openai_error,
)
from weir_shared.web.internal import metrics_route

MAX_BODY_BYTES = 1024 * 1024
DIALECTS: dict[Renderer, Dialect] = {
    render_engine_error: "engine",
    render_lake_error: "lake",
    render_openai_error: "openai",
}


def create_service(
    *,
    service: str,
    title: str,
    routes: Sequence[ControllerRouterHandler],
    render_error: Renderer,
    dialects: Mapping[str, Renderer] | None = None,
    lifespan: Sequence[Callable[[Litestar], Any]] = (),
    inspector: TicketInspector | None = None,
    state: dict[str, Any] | None = None,
    dependencies: dict[str, Provide] | None = None,
    version: str = "0.1.0",
    schema_path: str = "/schema",
    own_metrics: bool = True,
    front: Callable[[Litestar], ASGIApp] | None = None,
) -> Litestar:
    """A service whose routes are guarded, measured and documented.

    `dialects` are the renderers of paths that begin otherwise than the rest.
    `inspector` makes it a room behind the gateway: only its own documents are then served without a ticket.
    `front` is what stands before its routes and may answer in their place.
    Raises UnguardedRoute when a route declares no guard, and whatever its document raises when it cannot be made.
    """
    ticketed = [DefineMiddleware(TicketMiddleware, inspector=inspector)] if inspector else []
    operators = [metrics_route] if own_metrics else []
    app = Litestar(
        route_handlers=[Router("/", route_handlers=list(routes), middleware=ticketed), *operators],
        dependencies={"principal": Provide(provide_principal), **(dependencies or {})},
        exception_handlers={Exception: error_handler(render_error, dialects)},
        lifespan=list(lifespan),
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=OpenAPIConfig(
            title=title,
            version=version,
            path=schema_path,
            use_handler_docstrings=True,
            render_plugins=[JsonRenderPlugin()],
            openapi_router=Router(
                schema_path, route_handlers=[], guards=[open_to_all], include_in_schema=False
            ),
        ),
        state=State(state or {}),
        logging_config=None,
    )
    # Around Litestar, not within it: its own 404 and 405 never reach its middleware.
    app.asgi_handler = RequestTelemetry(front(app) if front else app.asgi_handler, service)
    # Made now rather than when it is first asked for: a type that cannot be described stops the service.
    refuse_unguarded_routes(app)
    others: dict[str, Dialect] = {prefix: DIALECTS[other] for prefix, other in (dialects or {}).items()}
    describe_refusals(app, DIALECTS.get(render_error, "engine"), others)
    return app


def from_state(name: str) -> Provide:
    """A dependency that the service's lifespan has put into its state under that name."""

    async def provide(state: State) -> Any:
        return state[name]

    return Provide(provide)
