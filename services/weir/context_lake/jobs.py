"""The background verbs of the lake, as the post room collects them: jobs that are rung for, and sweeps."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct

from weir.context_lake.deployment import Deployment
from weir.context_lake.notifications import reconciling, tidying
from weir.context_lake.notifications.polling import Poller
from weir.context_lake.notifications.queues import Queues
from weir.context_lake.notifications.reconciling import Reconciler
from weir.context_lake.refreshes import rounds as refresh_rounds
from weir.context_lake.refreshes import serving
from weir.context_lake.refreshes.serving import Server
from weir.context_lake.remembered import Documents
from weir.context_lake.roles import Roles
from weir.context_lake.runtimes import Runtimes
from weir.context_lake.surroundings import surroundings_of
from weir.context_lake.tables import lake_answers, lake_notifications
from weir.context_lake.uploads import collecting
from weir.context_lake.uploads.storage import Uploads
from weir.context_lake.vms import keeping, rounds
from weir.context_lake.vms.keeping import Keeper
from weir.context_lake.vms.providers.process import MEBIBYTE, ProcessHost
from weir.context_lake.vms.waking import Vms
from weir_shared.db.pool import Database
from weir_shared.queue.rounds import Job, Sweep, Tools

PART = "lake_keeper"
REFRESHES = "lake_refreshes"
UPLOADS = "lake_uploads"
NOTICES = "lake_notices"
# Longer than a refresh and the views over it may take: its lease says whether somebody is at it, not this.
REFRESH_JOB_SECONDS = 86_400


class Notices(Struct, frozen=True):
    """What the queues' rounds need."""

    database: Database
    queues: Queues
    poller: Poller
    reconciler: Reconciler


@asynccontextmanager
async def open_part(tools: Tools) -> AsyncGenerator[dict[str, Any], None]:
    """What the jobs of this room find in their context."""
    runtimes = Runtimes(tools.vault)
    surroundings = surroundings_of(tools.settings)
    roles = Roles(surroundings)
    keeper = Keeper(
        database=tools.database,
        doorbell=tools.doorbell,
        vault=tools.vault,
        host=ProcessHost(tools.settings),
        runtimes=runtimes,
        deployment=Deployment(tools.database, tools.vault, runtimes, surroundings, roles),
        has_roles=surroundings.s3_role_arn is not None,
        idle_seconds=tools.settings.vm_idle_seconds,
        recycle_bytes=tools.settings.vm_recycle_bytes,
        memory_bytes=tools.settings.vm_memory_mib * MEBIBYTE,
    )
    server = Server(
        database=tools.database,
        doorbell=tools.doorbell,
        vms=Vms(tools.database, tools.doorbell, runtimes, keeper.deployment),
        documents=Documents(),
        timeout_seconds=tools.settings.refresh_timeout_seconds,
        wakes=tools.settings.refresh_wakes,
        noted=lake_notifications.note_refreshed,
        places=asyncio.Semaphore(serving.AT_ONCE),
    )
    queues = Queues(tools.settings.aws_endpoint_url)
    notices = Notices(
        tools.database,
        queues,
        Poller(tools.database, queues, quiet_seconds=tools.settings.refresh_debounce_seconds),
        Reconciler(tools.database, tools.vault, surroundings, roles, tools.settings.reconcile_seconds),
    )
    try:
        yield {PART: keeper, REFRESHES: server, UPLOADS: Uploads(surroundings.uploads), NOTICES: notices}
    finally:
        await queues.close()
        await runtimes.close()


async def start_vm(ctx: dict[str, Any], *, tenant_id: str, epoch: int) -> None:
    await keeping.boot(ctx[PART], tenant_id, epoch)


async def stop_vm(ctx: dict[str, Any], *, tenant_id: str, epoch: int, force: bool = False) -> None:
    await keeping.hibernate(ctx[PART], tenant_id, epoch, force=force)


async def apply_configuration(ctx: dict[str, Any], *, tenant_id: str) -> None:
    await keeping.apply_newest(ctx[PART], tenant_id)


async def ring_again_any(ctx: dict[str, Any]) -> None:
    await rounds.ring_again_any(ctx[PART])


async def hibernate_idle_any(ctx: dict[str, Any]) -> None:
    await rounds.hibernate_idle_any(ctx[PART])


async def bury_dead_any(ctx: dict[str, Any]) -> None:
    await rounds.bury_dead_any(ctx[PART])


async def apply_forgotten_any(ctx: dict[str, Any]) -> None:
    await rounds.apply_forgotten_any(ctx[PART])


async def replace_swollen_any(ctx: dict[str, Any]) -> None:
    await rounds.replace_swollen_any(ctx[PART])


async def watch_exits(ctx: dict[str, Any]) -> None:
    await rounds.watch_exits(ctx[PART])


async def renew_roles_any(ctx: dict[str, Any]) -> None:
    await rounds.renew_roles_any(ctx[PART])


async def count_states_any(ctx: dict[str, Any]) -> None:
    await rounds.count_states_any(ctx[PART])


async def collect_dropped_uploads_any(ctx: dict[str, Any]) -> None:
    await collecting.collect_dropped_any(ctx[PART].database, ctx[UPLOADS])


async def collect_orphaned_uploads_any(ctx: dict[str, Any]) -> None:
    await collecting.collect_orphans_any(ctx[PART].database, ctx[UPLOADS])


async def forget_answers_any(ctx: dict[str, Any]) -> None:
    keeper: Keeper = ctx[PART]
    async with keeper.database.any_tenant() as connection:
        await lake_answers.forget_old_any(connection)


async def poll_queues_any(ctx: dict[str, Any]) -> None:
    """Ends only with the worker: a queue is waited at, not looked at now and then."""
    await ctx[NOTICES].poller.run()


async def remove_queues_any(ctx: dict[str, Any]) -> None:
    await tidying.remove_queues_any(ctx[NOTICES].database, ctx[NOTICES].queues)


async def narrow_policies_any(ctx: dict[str, Any]) -> None:
    await tidying.narrow_policies_any(ctx[NOTICES].database, ctx[NOTICES].queues)


async def forget_events_any(ctx: dict[str, Any]) -> None:
    await tidying.forget_events_any(ctx[NOTICES].database)


async def reconcile_any(ctx: dict[str, Any]) -> None:
    await reconciling.reconcile_any(ctx[NOTICES].reconciler)


async def refresh(ctx: dict[str, Any], *, tenant_id: str, name: str) -> None:
    await serving.serve(ctx[REFRESHES], tenant_id, name)


async def ring_refreshes_any(ctx: dict[str, Any]) -> None:
    await refresh_rounds.ring_due_any(ctx[REFRESHES])


async def wake_for_refreshes_any(ctx: dict[str, Any]) -> None:
    await refresh_rounds.wake_due_any(ctx[REFRESHES])


async def forget_runs_any(ctx: dict[str, Any]) -> None:
    await refresh_rounds.forget_runs_any(ctx[REFRESHES])


JOBS = (
    Job(name="vm.start", run=start_vm, seconds=keeping.BOOT_JOB_SECONDS),
    Job(name="vm.stop", run=stop_vm, seconds=keeping.STOP_JOB_SECONDS),
    Job(name="lake.apply", run=apply_configuration, seconds=keeping.APPLY_JOB_SECONDS),
    Job(name="lake.refresh", run=refresh, seconds=REFRESH_JOB_SECONDS),
)
SWEEPS = (
    Sweep(run=ring_again_any, every_seconds=2),
    Sweep(run=hibernate_idle_any, every_seconds=2),
    Sweep(run=bury_dead_any, every_seconds=5),
    Sweep(run=apply_forgotten_any, every_seconds=5),
    Sweep(run=replace_swollen_any, every_seconds=2),
    Sweep(run=watch_exits, every_seconds=1),
    Sweep(run=renew_roles_any, every_seconds=300),
    Sweep(run=count_states_any, every_seconds=5),
    Sweep(run=forget_answers_any, every_seconds=600),
    Sweep(run=collect_dropped_uploads_any, every_seconds=10),
    Sweep(run=collect_orphaned_uploads_any, every_seconds=20),
    Sweep(run=poll_queues_any, every_seconds=1),
    Sweep(run=remove_queues_any, every_seconds=60),
    Sweep(run=narrow_policies_any, every_seconds=20),
    Sweep(run=forget_events_any, every_seconds=60),
    Sweep(run=reconcile_any, every_seconds=15),
    Sweep(run=ring_refreshes_any, every_seconds=0.5),
    Sweep(run=wake_for_refreshes_any, every_seconds=5),
    Sweep(run=forget_runs_any, every_seconds=600),
)
