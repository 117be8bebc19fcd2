"""The worker's rounds: runtimes that are forgotten, idle, dead or nobody's."""

import time

import structlog

from weir.context_lake import measures
from weir.context_lake.runtimes import RuntimeGone, RuntimeRefused
from weir.context_lake.tables import lake_vms
from weir.context_lake.tables.lake_vms import Awake
from weir.context_lake.vms.keeping import STATUS_SECONDS, Keeper, end, move
from weir.context_lake.vms.providers.process import HostRefused, HostUnreachable, Living

# How long a ring may be on its way before a sweep rings again.
UNSERVED_SECONDS = 2.0

log = structlog.get_logger(__name__)


async def ring_again_any(keeper: Keeper) -> None:
    """Rings for runtimes that were to start or to stop and that nobody is at: a ring or a worker was lost."""
    async with keeper.database.any_tenant() as connection:
        unserved = await lake_vms.find_unserved_any(connection, seconds=UNSERVED_SECONDS)
    for vm in unserved:
        job = "vm.start" if vm.state == "provisioning" else "vm.stop"
        # Under a key of its own: the lost worker's ring may still be taken for the running one.
        key = f"{vm.tenant_id}:{vm.epoch}:{int(time.time())}"
        await keeper.doorbell.ring(job, key=key, tenant_id=vm.tenant_id, epoch=vm.epoch)


async def hibernate_idle_any(keeper: Keeper) -> None:
    """Hibernates runtimes that have had no query for a while, unless one of theirs is still running."""
    async with keeper.database.any_tenant() as connection:
        idle = await lake_vms.find_idle_any(connection, seconds=keeper.idle_seconds)
    for vm in idle:
        if await _is_busy(keeper, vm):
            async with keeper.database.tenant(vm.tenant_id) as connection:
                await lake_vms.touch(connection, vm.tenant_id)
        elif await move(keeper, vm.tenant_id, "running", vm.epoch, "hibernating", cause="idle"):
            await keeper.doorbell.ring(
                "vm.stop", key=f"{vm.tenant_id}:{vm.epoch}", tenant_id=vm.tenant_id, epoch=vm.epoch
            )


async def bury_dead_any(keeper: Keeper) -> None:
    """Puts runtimes to rest whose process is gone, and ends processes that no row tells of."""
    try:
        before = await keeper.host.list()
        async with keeper.database.any_tenant() as connection:
            awake = await lake_vms.list_awake_any(connection)
        after = await keeper.host.list()
    except (HostUnreachable, HostRefused):
        return
    # The row was read before the host's second word and after its first: neither is taken for old.
    living = {(runtime.tenant, runtime.epoch) for runtime in after}
    for vm in awake:
        if vm.state == "running" and (vm.tenant_id, vm.epoch) not in living:
            await bury(keeper, vm.tenant_id, vm.epoch, "gone")
    known = {vm.tenant_id: vm.epoch for vm in awake}
    for runtime in before:
        if runtime.epoch != known.get(runtime.tenant):
            await _end_stray(keeper, runtime)


async def bury(keeper: Keeper, tenant_id: str, epoch: int, reason: str) -> None:
    """Notes that a runtime ended unasked; the next query brings it back."""
    if await move(keeper, tenant_id, "running", epoch, "paused", cause=reason):
        measures.KILLED.labels(reason).inc()
        log.warning("runtime ended", tenant_id=tenant_id, epoch=epoch, reason=reason)


async def watch_exits(keeper: Keeper) -> None:
    """Buries runtimes as soon as the host tells of their end. Returns when the host goes away."""
    try:
        async for exit_ in keeper.host.watch():
            if exit_.reason != "stopped":
                await bury(keeper, exit_.tenant, exit_.epoch, exit_.reason)
    except HostUnreachable:
        return


async def count_states_any(keeper: Keeper) -> None:
    async with keeper.database.any_tenant() as connection:
        counts = await lake_vms.count_states_any(connection)
    measures.STATES.clear()
    for state, lakes in counts.items():
        measures.STATES.labels(state).set(lakes)


async def _is_busy(keeper: Keeper, awake: Awake) -> bool:
    async with keeper.database.tenant(awake.tenant_id) as connection:
        vm = await lake_vms.read_vm(connection, awake.tenant_id)
    if vm.state != "running" or vm.epoch != awake.epoch:
        return True
    try:
        client = await keeper.runtimes.client_of(vm)
        status = await client.ask("GET", "/status", seconds=STATUS_SECONDS)
    except (RuntimeGone, RuntimeRefused):
        return False
    except TimeoutError:
        return True
    return bool(status["activeQueries"])


async def _end_stray(keeper: Keeper, runtime: Living) -> None:
    log.warning("stray runtime ended", tenant_id=runtime.tenant, epoch=runtime.epoch)
    await end(keeper, runtime.tenant, runtime.epoch)
