"""The room's table of contents: its routes, and what they are made of."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
from litestar import Litestar

from weir.context_lake.changing import Catalogue
from weir.context_lake.columns import Columns
from weir.context_lake.deployment import Deployment
from weir.context_lake.embedding import EmbeddingDesk
from weir.context_lake.importing import ImportDesk
from weir.context_lake.notifications.queues import Queues
from weir.context_lake.planning import Planner
from weir.context_lake.probing import Prober
from weir.context_lake.refreshes.asking import RefreshDesk
from weir.context_lake.remembered import Documents
from weir.context_lake.roles import Roles
from weir.context_lake.routes import (
    config,
    datasets,
    hooks,
    imports,
    lifecycle,
    refreshes,
    sql,
    status,
    versions,
    views,
    webhook,
)
from weir.context_lake.routes.runtime_door import runtime_door
from weir.context_lake.runtimes import Runtimes
from weir.context_lake.schemas import Schemas
from weir.context_lake.sight import Sight
from weir.context_lake.sql import SqlDesk
from weir.context_lake.status import StatusDesk
from weir.context_lake.surroundings import surroundings_of
from weir.context_lake.turns import Turns
from weir.context_lake.uploads.inspecting import Inspector
from weir.context_lake.uploads.storage import Uploads
from weir.context_lake.vms.waking import Vms
from weir_shared.auth.keys import TICKET_KEY, load_or_create_key_pair
from weir_shared.auth.tickets import TicketInspector, TicketOffice
from weir_shared.clients.engine import EngineClient
from weir_shared.db.pool import open_database
from weir_shared.queue.doorbell import open_doorbell
from weir_shared.sealing import Vault, load_or_create_keys
from weir_shared.settings import SettingError, Settings
from weir_shared.web.app import create_service, from_state
from weir_shared.web.errors import render_lake_error

PARTS = ("database", "catalogue", "vms", "status_desk", "refresh_desk", "import_desk", "prober")
# How often a lake's use is written down at most; a quarter of the idle time keeps it awake for sure.
ACTIVITY_SECONDS = 10
CONNECTIONS = 20
MEBIBYTE = 1024 * 1024


def create_app(settings: Settings) -> Litestar:
    """The context lake of these settings; it opens its connections when it is served.

    Raises UnusableKey, SealError or SettingError when it could not serve.
    """
    if settings.database_url is None or settings.redis_url is None:
        raise SettingError("The context lake needs WEIR_DATABASE_URL and WEIR_REDIS_URL; `weir up` sets both")
    tickets = load_or_create_key_pair(settings.keys_dir, TICKET_KEY)
    return create_service(
        service="context-lake",
        title="Weir context lake",
        routes=[
            datasets.routes,
            imports.routes,
            views.routes,
            refreshes.routes,
            config.routes,
            versions.routes,
            sql.routes,
            status.routes,
            lifecycle.routes,
            webhook.routes,
            hooks.routes,
        ],
        render_error=render_lake_error,
        lifespan=[_opened(settings, TicketOffice(tickets))],
        inspector=TicketInspector(tickets.public, "context-lake"),
        dependencies={name: from_state(name) for name in PARTS},
        front=runtime_door,
    )


def _opened(settings: Settings, office: TicketOffice) -> Any:
    """The room's parts, open for as long as it serves."""

    @asynccontextmanager
    async def opened(app: Litestar) -> AsyncGenerator[None, None]:
        assert settings.database_url and settings.redis_url
        async with AsyncExitStack() as stack:
            database = await open_database(settings.database_url, size=CONNECTIONS)
            stack.push_async_callback(database.close)
            doorbell = await open_doorbell(settings.redis_url)
            stack.push_async_callback(doorbell.close)
            vault = Vault(database, load_or_create_keys(settings.keys_dir / "kek"))
            runtimes = Runtimes(vault)
            stack.push_async_callback(runtimes.close)
            inside = await stack.enter_async_context(aiohttp.ClientSession(trust_env=False))
            documents = Documents()
            planner = Planner()
            stack.push_async_callback(planner.close)
            surroundings = surroundings_of(settings)
            queues = Queues(settings.aws_endpoint_url)
            stack.push_async_callback(queues.close)
            roles = Roles(surroundings)
            deployment = Deployment(database, vault, runtimes, surroundings, roles)
            vms = Vms(database, doorbell, runtimes, deployment)
            app.state.update(
                database=database,
                catalogue=Catalogue(
                    database=database,
                    vault=vault,
                    doorbell=doorbell,
                    surroundings=surroundings,
                    columns=Columns(Schemas(database, runtimes), planner),
                    documents=documents,
                    turns=Turns(),
                    queues=queues,
                ),
                vms=vms,
                import_desk=ImportDesk(
                    Uploads(surroundings.uploads), Inspector(), max_bytes=settings.import_max_mib * MEBIBYTE
                ),
                prober=Prober(database, vault, vms, surroundings, roles),
                sql_desk=SqlDesk(
                    vms,
                    most_seconds=settings.sql_timeout_seconds,
                    activity_seconds=min(ACTIVITY_SECONDS, settings.vm_idle_seconds / 4),
                    visible=Sight(database, documents).tables_of,
                ),
                embedding_desk=EmbeddingDesk(
                    database, vault, EngineClient(settings.engine_url, inside, office)
                ),
                refresh_desk=RefreshDesk(database, doorbell, vms, documents),
                status_desk=StatusDesk(database, vms, runtimes, documents),
            )
            yield

    return opened
