"""The background verbs of the door, as the post room collects them: entries of the trail that are kept long enough."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from weir.gateway.tables import audit_log
from weir_shared.queue.rounds import Job, Sweep, Tools

PART = "door"
REMOVED_AT_ONCE = 10_000


@asynccontextmanager
async def open_part(tools: Tools) -> AsyncGenerator[dict[str, Any], None]:
    """What the sweeps of this room find in their context."""
    yield {PART: tools}


async def forget_old_entries_any(ctx: dict[str, Any]) -> None:
    tools: Tools = ctx[PART]
    removed = REMOVED_AT_ONCE if tools.settings.audit_days else 0
    while removed == REMOVED_AT_ONCE:
        async with tools.database.any_tenant() as connection:
            removed = await audit_log.remove_any_older(
                connection, days=tools.settings.audit_days, limit=REMOVED_AT_ONCE
            )


JOBS: tuple[Job, ...] = ()
SWEEPS: tuple[Sweep, ...] = (Sweep(run=forget_old_entries_any, every_seconds=3600),)
