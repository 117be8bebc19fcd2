"""The background verbs of the lake, as the post room collects them: jobs that are rung for, and sweeps."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from weir.context_lake.deployment import Deployment
from weir.context_lake.runtimes import Runtimes
from weir.context_lake.surroundings import surroundings_of
from weir.context_lake.tables import lake_answers
from weir.context_lake.vms import keeping, rounds
from weir.context_lake.vms.keeping import Keeper
from weir.context_lake.vms.providers.process import ProcessHost
from weir_shared.queue.rounds import Job, Sweep, Tools

PART = "lake_keeper"


@asynccontextmanager
async def open_part(tools: Tools) -> AsyncGenerator[dict[str, Any], None]:
    """What the jobs of this room find in their context."""
    runtimes = Runtimes(tools.vault)
    surroundings = surroundings_of(tools.settings)
    keeper = Keeper(
        database=tools.database,
        doorbell=tools.doorbell,
        vault=tools.vault,
        host=ProcessHost(tools.settings),
        runtimes=runtimes,
        deployment=Deployment(tools.database, tools.vault, runtimes, surroundings),
        idle_seconds=tools.settings.vm_idle_seconds,
    )
    try:
        yield {PART: keeper}
    finally:
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


async def watch_exits(ctx: dict[str, Any]) -> None:
    await rounds.watch_exits(ctx[PART])


async def count_states_any(ctx: dict[str, Any]) -> None:
    await rounds.count_states_any(ctx[PART])


async def forget_answers_any(ctx: dict[str, Any]) -> None:
    keeper: Keeper = ctx[PART]
    async with keeper.database.any_tenant() as connection:
        await lake_answers.forget_old_any(connection)


JOBS = (
    Job(name="vm.start", run=start_vm, seconds=keeping.BOOT_LEASE_SECONDS),
    Job(name="vm.stop", run=stop_vm, seconds=keeping.STOP_LEASE_SECONDS),
    Job(name="lake.apply", run=apply_configuration, seconds=30),
)
SWEEPS = (
    Sweep(run=ring_again_any, every_seconds=2),
    Sweep(run=hibernate_idle_any, every_seconds=2),
    Sweep(run=bury_dead_any, every_seconds=5),
    Sweep(run=watch_exits, every_seconds=1),
    Sweep(run=count_states_any, every_seconds=10),
    Sweep(run=forget_answers_any, every_seconds=600),
)
