"""What a room hands to the post room: its jobs, its sweeps, and the part of the context that they use."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from msgspec import Struct

from weir_shared.db.pool import Database, open_database
from weir_shared.queue.doorbell import Doorbell, open_doorbell
from weir_shared.sealing import Vault, load_or_create_keys
from weir_shared.settings import Settings

Run = Callable[..., Coroutine[Any, Any, None]]


class Job(Struct, frozen=True, kw_only=True):
    """Work that is rung for by name: `run(ctx, **arguments)`, cut after so many seconds."""

    name: str
    run: Run
    seconds: float


class Sweep(Struct, frozen=True, kw_only=True):
    """Work that is done again and again: `run(ctx)`, then a pause, in every worker."""

    run: Run
    every_seconds: float


class Tools(Struct, frozen=True):
    """What every room's jobs may use."""

    settings: Settings
    database: Database
    doorbell: Doorbell
    vault: Vault


@asynccontextmanager
async def open_tools(settings: Settings, *, connections: int = 10, warm: int = 1) -> AsyncGenerator[Tools]:
    """The ledger, the doorbell and the vault of these settings; `warm` connections are there from the start.

    Raises DatabaseUnavailable and RedisError."""
    assert settings.database_url is not None and settings.redis_url is not None
    async with AsyncExitStack() as stack:
        database = await open_database(settings.database_url, size=connections, warm=warm)
        stack.push_async_callback(database.close)
        doorbell = await open_doorbell(settings.redis_url)
        stack.push_async_callback(doorbell.close)
        yield Tools(
            settings, database, doorbell, Vault(database, load_or_create_keys(settings.keys_dir / "kek"))
        )
