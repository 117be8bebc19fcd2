"""What a room hands to the post room: its jobs, its sweeps, and the part of the context that they use."""

from collections.abc import Callable, Coroutine
from typing import Any

from msgspec import Struct

from weir_shared.db.pool import Database
from weir_shared.queue.doorbell import Doorbell
from weir_shared.sealing import Vault
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
