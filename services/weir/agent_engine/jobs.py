"""The background verbs of the studio, as the post room collects them: jobs that are rung for, and sweeps.

The worker is a replica of the studio: turns that run there are told, stopped and answered like any other.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from weir.agent_engine import firing
from weir.agent_engine.knowledge import files, indexing
from weir.agent_engine.metrics import CONFIRMATIONS_PENDING
from weir.agent_engine.opening import open_studio
from weir.agent_engine.tables import memories, tool_calls, triggers, waiting
from weir.agent_engine.task_worker import KEEP_SECONDS, TaskWorker
from weir.agent_engine.tasks import TOPIC
from weir_shared.auth.keys import TICKET_KEY, load_or_create_key_pair
from weir_shared.auth.tickets import TicketOffice
from weir_shared.queue.rounds import Job, Sweep, Tools
from weir_shared.telemetry.metrics import QUEUE_DEPTH, QUEUE_OLDEST

PART, AUDIT_DAYS = "studio", "audit_days"
TASKS = "tasks"
# So many notices become one look.
LOOK_SECONDS = 0.02
REMOVED_AT_ONCE = 10_000


@asynccontextmanager
async def open_part(tools: Tools) -> AsyncGenerator[dict[str, Any], None]:
    """What the jobs of this room find in their context."""
    keys = load_or_create_key_pair(tools.settings.keys_dir, TICKET_KEY)
    async with open_studio(tools, TicketOffice(keys)) as studio, tools.doorbell.awaiting(TOPIC) as notice:
        worker = TaskWorker(studio, notice)
        yield {PART: studio, AUDIT_DAYS: tools.settings.audit_days, TASKS: worker}
        await worker.close()


async def forget_outlived_any(ctx: dict[str, Any]) -> None:
    async with ctx[PART].database.any_tenant() as connection:
        await memories.remove_any_outlived(connection)


async def index_file(ctx: dict[str, Any], *, tenant_id: str, file_id: str) -> None:
    await indexing.index(ctx[PART], tenant_id, file_id)


async def ring_files_any(ctx: dict[str, Any]) -> None:
    await indexing.ring_waiting_any(ctx[PART])


async def work_on_tasks_any(ctx: dict[str, Any]) -> None:
    await ctx[TASKS].look_any()


async def keep_tasks_any(ctx: dict[str, Any]) -> None:
    await ctx[TASKS].keep_any()


async def fire_triggers_any(ctx: dict[str, Any]) -> None:
    await firing.fire_due_any(ctx[PART])
    await firing.fire_refreshed_any(ctx[PART])


async def pass_runs_any(ctx: dict[str, Any]) -> None:
    await firing.pass_runs_any(ctx[PART])


async def forget_firings_any(ctx: dict[str, Any]) -> None:
    async with ctx[PART].database.any_tenant() as connection:
        await triggers.forget_old_any(connection)


async def count_tasks_any(ctx: dict[str, Any]) -> None:
    await ctx[TASKS].count_any()


async def count_waiting_any(ctx: dict[str, Any]) -> None:
    async with ctx[PART].database.any_tenant() as connection:
        found = await waiting.count_any(connection)
    CONFIRMATIONS_PENDING.set(found.confirmations)
    QUEUE_DEPTH.labels("knowledge_files").set(found.files)
    QUEUE_OLDEST.labels("knowledge_files").set(found.oldest_file_seconds)


async def forget_old_calls_any(ctx: dict[str, Any]) -> None:
    removed = REMOVED_AT_ONCE if ctx[AUDIT_DAYS] else 0
    while removed == REMOVED_AT_ONCE:
        async with ctx[PART].database.any_tenant() as connection:
            removed = await tool_calls.remove_any_older(
                connection, days=ctx[AUDIT_DAYS], limit=REMOVED_AT_ONCE
            )


JOBS: tuple[Job, ...] = (Job(name=files.JOB, run=index_file, seconds=indexing.JOB_SECONDS),)
SWEEPS: tuple[Sweep, ...] = (
    Sweep(run=ring_files_any, every_seconds=5),
    Sweep(run=work_on_tasks_any, every_seconds=LOOK_SECONDS),
    Sweep(run=keep_tasks_any, every_seconds=KEEP_SECONDS),
    Sweep(run=count_tasks_any, every_seconds=5),
    Sweep(run=fire_triggers_any, every_seconds=1),
    Sweep(run=pass_runs_any, every_seconds=60),
    Sweep(run=forget_firings_any, every_seconds=3600),
    Sweep(run=count_waiting_any, every_seconds=5),
    Sweep(run=forget_outlived_any, every_seconds=3600),
    Sweep(run=forget_old_calls_any, every_seconds=3600),
)
