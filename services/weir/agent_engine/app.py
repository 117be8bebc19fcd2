"""The studio's table of contents: its routes, and what is opened before the first and closed after the last."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
from litestar import Litestar, Request, Router
from litestar.datastructures import State
from litestar.di import Provide

from weir.agent_engine.models.configured import Models
from weir.agent_engine.models.openai_chat import OpenAIChat
from weir.agent_engine.routes import agents, chat, internal, models, schemas, sessions
from weir.agent_engine.running import RunningTurns
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables.turns import fail_any_overdue
from weir_shared.auth.keys import TICKET_KEY, load_or_create_key_pair
from weir_shared.auth.tickets import TicketInspector, TicketOffice
from weir_shared.clients.lake import LakeClient
from weir_shared.db.pool import open_database
from weir_shared.egress import open_egress
from weir_shared.errors import InvalidRequest
from weir_shared.sealing import Vault, load_or_create_keys
from weir_shared.settings import Settings
from weir_shared.web.app import create_service
from weir_shared.web.errors import render_engine_error
from weir_shared.web.server import DRAIN_SECONDS

DATABASE_CONNECTIONS = 16


def create_app(settings: Settings) -> Litestar:
    keys = load_or_create_key_pair(settings.keys_dir, TICKET_KEY)
    api = Router(
        "/api/v1",
        route_handlers=[
            *models.ROUTES,
            *agents.ROUTES,
            *schemas.ROUTES,
            *chat.ROUTES,
            *sessions.ROUTES,
        ],
        before_request=refuse_nul,
    )

    @asynccontextmanager
    async def furnished(app: Litestar) -> AsyncGenerator[None]:
        async with open_studio(settings, TicketOffice(keys)) as studio:
            app.state.studio = studio
            yield

    return create_service(
        service="agent-engine",
        title="Weir agent engine",
        routes=[api, internal.count_agents],
        render_error=render_engine_error,
        lifespan=[furnished],
        inspector=TicketInspector(keys.public, "agent-engine"),
        dependencies={"studio": Provide(provide_studio)},
    )


@asynccontextmanager
async def open_studio(settings: Settings, office: TicketOffice) -> AsyncGenerator[Studio]:
    """Everything that turns work with; at the end, turns get their time and connections are closed."""
    async with AsyncExitStack() as stack:
        database = await open_database(settings.database_url or "", size=DATABASE_CONNECTIONS)
        stack.push_async_callback(database.close)
        vault = Vault(database, load_or_create_keys(settings.keys_dir / "kek"))
        egress = await stack.enter_async_context(open_egress(allow_private=settings.allow_private_addresses))
        inside = await stack.enter_async_context(aiohttp.ClientSession(trust_env=False))
        running = RunningTurns()
        stack.push_async_callback(running.close, DRAIN_SECONDS)
        await fail_any_overdue(database)
        yield Studio(
            database=database,
            models=Models(database, vault, allow_private=settings.allow_private_addresses),
            client=OpenAIChat(egress),
            lake=LakeClient(settings.lake_url, inside, office),
            running=running,
            sql_seconds=settings.sql_timeout_seconds,
        )


async def provide_studio(state: State) -> Studio:
    return state.studio


async def refuse_nul(request: Request[Any, Any, Any]) -> None:
    """Postgres keeps no NUL in a text, so none gets in. Raises InvalidRequest."""
    if b"\\u0000" in await request.body():
        raise InvalidRequest("A text must not hold the character U+0000")
