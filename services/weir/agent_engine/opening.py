"""How the studio is furnished: once in each process that runs turns, the engine's own and the post room's."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from weir.agent_engine import replica
from weir.agent_engine.elsewhere import Elsewhere
from weir.agent_engine.http_tools import HttpTools
from weir.agent_engine.mcp.configured import McpServers
from weir.agent_engine.mcp.connection import Way
from weir.agent_engine.mcp.switchboard import Switchboard
from weir.agent_engine.models.asking import Asker
from weir.agent_engine.models.client import WireClient
from weir.agent_engine.models.configured import Models
from weir.agent_engine.models.embeddings import Embeddings
from weir.agent_engine.running import RunningTurns
from weir.agent_engine.studio import Studio
from weir_shared.auth.tickets import TicketOffice
from weir_shared.clients.lake import LakeClient
from weir_shared.egress import open_egress
from weir_shared.queue.feeds import Feeds
from weir_shared.queue.rounds import Tools

# For turns that nobody reads: a server has waited for those that somebody does.
LAST_SECONDS = 5
FILES_AT_ONCE = 2


@asynccontextmanager
async def open_studio(tools: Tools, office: TicketOffice) -> AsyncGenerator[Studio]:
    """Everything that turns work with; at the end, turns get their time and connections are closed."""
    settings, database = tools.settings, tools.database
    async with AsyncExitStack() as stack:
        egress = await stack.enter_async_context(open_egress(allow_private=settings.allow_private_addresses))
        inside = await stack.enter_async_context(aiohttp.ClientSession(trust_env=False))
        servers = McpServers(
            database, tools.vault, allow_private=settings.allow_private_addresses, stdio=settings.mcp_stdio
        )
        switchboard = Switchboard(servers, Way(egress, settings.allow_private_addresses))
        stack.push_async_callback(switchboard.close)
        stack.push_async_callback(_end, asyncio.create_task(switchboard.close_idle()))
        asker, running = Asker(egress), RunningTurns()
        elsewhere = Elsewhere(database, running, Feeds(tools.doorbell.redis))
        stack.push_async_callback(replica.leave, database, elsewhere.replica_id)
        stack.push_async_callback(elsewhere.close)
        await replica.begin(database, elsewhere.replica_id)
        for chore in (replica.live(database, elsewhere.replica_id), elsewhere.answer_letters()):
            stack.push_async_callback(_end, asyncio.create_task(chore))
        stack.push_async_callback(running.close, LAST_SECONDS)
        yield Studio(
            database=database,
            models=Models(database, tools.vault, allow_private=settings.allow_private_addresses),
            vault=tools.vault,
            mcp_servers=servers,
            http_tools=HttpTools(database, tools.vault, allow_private=settings.allow_private_addresses),
            egress=egress,
            switchboard=switchboard,
            client=WireClient(asker),
            embeddings=Embeddings(asker),
            lake=LakeClient(settings.lake_url, inside, office),
            running=running,
            elsewhere=elsewhere,
            sql_seconds=settings.sql_timeout_seconds,
            doorbell=tools.doorbell,
            confirm_seconds=settings.confirm_timeout_seconds,
            reading=asyncio.Semaphore(FILES_AT_ONCE),
            config_variables=_config_variables(settings.config_variables_prefix),
            allow_private=settings.allow_private_addresses,
        )


def _config_variables(prefix: str | None) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if prefix and name.startswith(prefix)}


async def _end(chore: asyncio.Task[None]) -> None:
    chore.cancel()
    await asyncio.wait([chore])
