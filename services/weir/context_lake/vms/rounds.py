"""The worker's rounds: runtimes that are forgotten, idle, dead or nobody's."""

import time

import structlog

from weir.context_lake import measures
from weir.context_lake.deployment import ConfigurationRefused
from weir.context_lake.refreshes.startup import NEAR_SECONDS
from weir.context_lake.runtimes import RuntimeGone, RuntimeRefused
from weir.context_lake.tables import lake_refreshes, lake_vms
from weir.context_lake.vms.keeping import STATUS_SECONDS, Keeper, end, look, move, replace
from weir.context_lake.vms.providers.process import HostRefused, HostUnreachable, Living
from weir_shared.sealing import KEK_REFERENCES, count_any_references
from weir_shared.telemetry.metrics import QUEUE_DEPTH, QUEUE_OLDEST

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
    """Hibernates runtimes that have had no query for a while, unless one of theirs is still running.

    A refresh that is under way, or due soon, keeps one awake too.
    """
    async with keeper.database.any_tenant() as connection:
        idle = await lake_vms.find_idle_any(connection, seconds=keeper.idle_seconds)
    for vm in idle:
        if await _is_busy(keeper, vm.tenant_id, vm.epoch):
            async with keeper.database.tenant(vm.tenant_id) as connection:
                await lake_vms.touch(connection, vm.tenant_id)
        elif await move(keeper, vm.tenant_id, "running", vm.epoch, "hibernating", cause="idle"):
            await keeper.doorbell.ring(
                "vm.stop", key=f"{vm.tenant_id}:{vm.epoch}", tenant_id=vm.tenant_id, epoch=vm.epoch
            )


async def apply_forgotten_any(keeper: Keeper) -> None:
    """Rings for running runtimes that lack a version or a redeploy, and that nobody is at: the ring was lost."""
    async with keeper.database.any_tenant() as connection:
        drifted = await lake_vms.find_drifted_any(connection)
    for vm in drifted:
        key = f"{vm.tenant_id}:{int(time.time())}"
        await keeper.doorbell.ring("lake.apply", key=key, tenant_id=vm.tenant_id)


async def replace_swollen_any(keeper: Keeper) -> None:
    """Replaces runtimes that keep too much memory: idle ones above the mark, busy ones close to their limit.

    The engine's threads do not give back all that they have read with (docs/decisions/0010), so a runtime that
    has had large queries would meet its limit in a later, small one.
    """
    try:
        living = await keeper.host.list()
    except (HostUnreachable, HostRefused):
        return
    pressed = max(keeper.recycle_bytes, keeper.memory_bytes * 3 // 4)
    for runtime in living:
        if runtime.endedFor or runtime.rssBytes <= keeper.recycle_bytes:
            continue
        vm = await look(keeper, runtime.tenant)
        if vm.state != "running" or vm.epoch != runtime.epoch:
            continue
        if runtime.rssBytes > pressed or not await _is_busy(keeper, runtime.tenant, runtime.epoch):
            await replace(keeper, vm, cause="memory")


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
        # One that was let go ends its last answers; the host sees to its end.
        if runtime.epoch != known.get(runtime.tenant) and not runtime.endedFor:
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


async def renew_roles_any(keeper: Keeper) -> None:
    """Gives running runtimes the newer keys of their tenants' roles; while the keys last, nothing changes there."""
    if not keeper.has_roles:
        return
    async with keeper.database.any_tenant() as connection:
        tenants = await lake_vms.find_with_roles_any(connection)
    for tenant_id in tenants:
        async with keeper.database.tenant(tenant_id) as connection:
            vm = await lake_vms.read_vm(connection, tenant_id)
        if vm.state != "running":
            continue
        try:
            await keeper.deployment.apply(vm, renews_keys=True)
        except (RuntimeGone, ConfigurationRefused) as fault:
            # The next query finds out the first; the second was logged where it was found.
            log.warning("role's keys not renewed", tenant_id=tenant_id, reason=str(fault))


async def count_states_any(keeper: Keeper) -> None:
    async with keeper.database.any_tenant() as connection:
        counts = await lake_vms.count_states_any(connection)
        drifted = await lake_vms.count_drifted_any(connection)
        due, seconds = await lake_refreshes.count_due_any(connection)
        sealed = await count_any_references(connection)
    measures.STATES.clear()
    for state, lakes in counts.items():
        measures.STATES.labels(state).set(lakes)
    measures.DRIFT.set(drifted)
    QUEUE_DEPTH.labels("refreshes").set(due)
    QUEUE_OLDEST.labels("refreshes").set(seconds)
    KEK_REFERENCES.clear()
    for kek_id, tenants in sealed.items():
        KEK_REFERENCES.labels(kek_id).set(tenants)


async def _is_busy(keeper: Keeper, tenant_id: str, epoch: int) -> bool:
    vm = await look(keeper, tenant_id)
    async with keeper.database.tenant(tenant_id) as connection:
        if await lake_refreshes.is_near(connection, tenant_id, seconds=NEAR_SECONDS):
            return True
    if vm.state != "running" or vm.epoch != epoch:
        return True
    try:
        client = await keeper.runtimes.client_of(vm)
        status = await client.ask("GET", "/status", seconds=STATUS_SECONDS)
    except (RuntimeGone, RuntimeRefused):
        return False
    except TimeoutError:
        return True
    return bool(status["activeQueries"] or status["activeRefreshes"])


async def _end_stray(keeper: Keeper, runtime: Living) -> None:
    log.warning("stray runtime ended", tenant_id=runtime.tenant, epoch=runtime.epoch)
    await end(keeper, runtime.tenant, runtime.epoch)
