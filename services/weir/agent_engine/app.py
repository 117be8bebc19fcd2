"""The studio's table of contents: its routes, and what is opened before the first and closed after the last."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request, Router
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide

from weir.agent_engine.naming import name_faults, refused
from weir.agent_engine.opening import open_studio
from weir.agent_engine.routes import (
    agents,
    audit,
    capabilities,
    catalogues,
    chat,
    completions,
    config,
    internal,
    knowledge,
    mcp_door,
    mcp_servers,
    memory,
    models,
    registry,
    relations,
    resilience,
    schemas,
    sessions,
    tasks,
    templates,
    triggers,
    usage,
)
from weir.agent_engine.routes import settings as settings_routes
from weir.agent_engine.studio import Studio
from weir_shared.auth.keys import TICKET_KEY, load_or_create_key_pair
from weir_shared.auth.principal import Principal
from weir_shared.auth.tickets import TicketInspector, TicketOffice
from weir_shared.errors import InvalidRequest
from weir_shared.queue.rounds import open_tools
from weir_shared.settings import SettingError, Settings
from weir_shared.web.app import create_service
from weir_shared.web.bodies import field_faults
from weir_shared.web.errors import render_engine_error, render_openai_error

DATABASE_CONNECTIONS, WARM_CONNECTIONS = 32, 16


def create_app(settings: Settings) -> Litestar:
    """Raises SettingError."""
    if settings.database_url is None or settings.redis_url is None:
        raise SettingError("The agent engine needs WEIR_DATABASE_URL and WEIR_REDIS_URL; `weir up` sets both")
    keys = load_or_create_key_pair(settings.keys_dir, TICKET_KEY)
    api = Router(
        "/api/v1",
        route_handlers=[
            *registry.ROUTES,
            *models.ROUTES,
            *agents.ROUTES,
            *capabilities.ROUTES,
            *schemas.ROUTES,
            *relations.ROUTES,
            *memory.ROUTES,
            *templates.ROUTES,
            *chat.ROUTES,
            *sessions.ROUTES,
            *tasks.ROUTES,
            *triggers.ROUTES,
            *settings_routes.ROUTES,
            *config.ROUTES,
            *audit.ROUTES,
            *knowledge.ROUTES,
            *mcp_servers.ROUTES,
            *catalogues.ROUTES,
            *resilience.ROUTES,
            *usage.ROUTES,
        ],
        before_request=check_body,
    )

    uploads = Router("/api/v1", route_handlers=[*knowledge.UPLOADS, *triggers.DOORS])
    door = Router("/v1", route_handlers=completions.ROUTES, before_request=check_body)

    @asynccontextmanager
    async def furnished(app: Litestar) -> AsyncGenerator[None]:
        async with (
            open_tools(settings, connections=DATABASE_CONNECTIONS, warm=WARM_CONNECTIONS) as tools,
            open_studio(tools, TicketOffice(keys)) as studio,
        ):
            app.state.studio = studio
            yield

    return create_service(
        service="agent-engine",
        title="Weir agent engine",
        routes=[api, uploads, door, *mcp_door.ROUTES, internal.count_agents, internal.embed_texts],
        render_error=render_engine_error,
        dialects={"/v1/": render_openai_error},
        lifespan=[furnished],
        inspector=TicketInspector(keys.public, "agent-engine"),
        dependencies={"studio": Provide(provide_studio)},
    )


async def provide_studio(state: State, principal: NamedDependency[Principal]) -> Studio:
    """Asks for the principal only to come after it: Litestar starts a task for each of two that may come at once."""
    return state.studio


async def check_body(request: Request[Any, Any, Any]) -> None:
    """Tells every fault of a body's fields at once. Raises InvalidRequest, also for a NUL: Postgres keeps none."""
    body = await request.body()
    if b"\\u0000" in body:
        raise InvalidRequest("A text must not hold the character U+0000")
    taken = request.route_handler.parsed_data_field
    if taken is not None and (faults := field_faults(body, taken.annotation)):
        raise refused([*faults, *name_faults(body, taken.annotation)])
