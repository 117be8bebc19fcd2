"""What a turn works with: the studio's furniture, opened once and handed down."""

import asyncio
from collections.abc import Mapping

import aiohttp
from msgspec import Struct

from weir.agent_engine.elsewhere import Elsewhere
from weir.agent_engine.http_tools import HttpTools
from weir.agent_engine.mcp.configured import McpServers
from weir.agent_engine.mcp.switchboard import Switchboard
from weir.agent_engine.models.base import ModelClient
from weir.agent_engine.models.configured import Models
from weir.agent_engine.models.embeddings import Embeddings
from weir.agent_engine.running import RunningTurns
from weir_shared.clients.lake import LakeClient
from weir_shared.db.pool import Database
from weir_shared.queue.doorbell import Doorbell
from weir_shared.sealing import Vault


class Studio(Struct, frozen=True, kw_only=True):
    database: Database
    models: Models
    vault: Vault
    mcp_servers: McpServers
    http_tools: HttpTools
    egress: aiohttp.ClientSession
    """For addresses that tenants name, which are checked when they are connected to."""
    switchboard: Switchboard
    client: ModelClient
    embeddings: Embeddings
    lake: LakeClient
    running: RunningTurns
    elsewhere: Elsewhere
    sql_seconds: int
    doorbell: Doorbell
    confirm_seconds: int
    reading: asyncio.Semaphore
    """Held while a file of a knowledge base is read: each takes a process of its own and much memory."""
    config_variables: Mapping[str, str]
    """What `${NAME}` in a configuration document may stand for, as the operator allows it."""
    allow_private: bool = False
    """Whether addresses that callers name may be private ones."""
