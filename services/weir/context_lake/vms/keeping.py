"""The worker's side of a runtime's life: boot it, hibernate it, find the dead, the idle and the forgotten."""

import asyncio
import secrets
import time

import structlog
from msgspec import Struct

from weir.context_lake import measures
from weir.context_lake.deployment import ConfigurationRefused, Deployment
from weir.context_lake.runtimes import (
    RuntimeAddress,
    RuntimeGone,
    RuntimeRefused,
    Runtimes,
    secret_identity,
)
from weir.context_lake.tables import lake_vms
from weir.context_lake.tables.lake_vms import Awake, State, Vm
from weir.context_lake.vms.providers.process import HostRefused, HostUnreachable, Living, ProcessHost
from weir_shared.db.pool import Database
from weir_shared.queue.doorbell import Doorbell
from weir_shared.sealing import SealError, Vault

BOOT_SECONDS = 20
BOOT_LEASE_SECONDS = BOOT_SECONDS + 5
DRAIN_SECONDS = 30
STOP_LEASE_SECONDS = DRAIN_SECONDS + 15
STATUS_SECONDS = 2
# How long a ring may be on its way before a sweep rings again.
UNSERVED_SECONDS = 2.0
# A host that was just started takes a moment to listen.
HOST_RETRY_SECONDS = 0.25
LIVING_LOOK_SECONDS = 0.05

log = structlog.get_logger(__name__)


class Keeper(Struct, frozen=True):
    """What the worker needs to keep runtimes."""

    database: Database
    doorbell: Doorbell
    vault: Vault
    host: ProcessHost
    runtimes: Runtimes
    deployment: Deployment
    idle_seconds: float


async def boot(keeper: Keeper, tenant_id: str, epoch: int) -> None:
    """Starts the runtime of one epoch and gives it its configuration; does nothing when the epoch has passed."""
    endpoint = keeper.host.endpoint_of(tenant_id, epoch)
    sealed = await keeper.vault.seal(tenant_id, secret_identity(epoch), secrets.token_hex(32))
    async with keeper.database.tenant(tenant_id) as connection:
        claim = await lake_vms.claim_boot(
            connection, tenant_id, epoch, endpoint=endpoint, secret=sealed, seconds=BOOT_LEASE_SECONDS
        )
    if claim is None:
        return
    started = time.monotonic()
    try:
        async with asyncio.timeout(BOOT_SECONDS):
            secret = await keeper.vault.open(tenant_id, secret_identity(epoch), claim.secret)
            version = await _raise_up(keeper, tenant_id, epoch, secret)
    except (
        HostUnreachable,
        HostRefused,
        RuntimeGone,
        ConfigurationRefused,
        SealError,
        TimeoutError,
    ) as fault:
        reason = str(fault) or "it was not ready in time"
        log.error("runtime not started", tenant_id=tenant_id, epoch=epoch, reason=reason)
        await _move(keeper, tenant_id, "provisioning", epoch, "error", cause="boot_failed", error=reason)
        await _end(keeper, tenant_id, epoch)
        return
    async with keeper.database.tenant(tenant_id) as connection:
        is_running = await lake_vms.mark_running(connection, tenant_id, epoch, version)
    if not is_running:
        # Stopped while it started: nobody else knows of this process.
        await _end(keeper, tenant_id, epoch)
        return
    measures.BOOT_SECONDS.observe(claim.waited_seconds + time.monotonic() - started)
    measures.count_transition("provisioning", "running", "boot")
    await keeper.doorbell.notify(f"vm:{tenant_id}")


async def hibernate(keeper: Keeper, tenant_id: str, epoch: int, *, force: bool = False) -> None:
    """Lets the running answers of a hibernating runtime end (30 s), then ends it; its cache stays."""
    async with keeper.database.tenant(tenant_id) as connection:
        claimed = await lake_vms.claim_lease(
            connection, tenant_id, "hibernating", epoch, seconds=STOP_LEASE_SECONDS
        )
        vm = await lake_vms.read_vm(connection, tenant_id)
    if not claimed:
        return
    if vm.secret is not None and not force:
        await _drain(keeper, vm)
    await _end(keeper, tenant_id, epoch)
    await _move(keeper, tenant_id, "hibernating", epoch, "paused", cause="hibernated")


async def apply_newest(keeper: Keeper, tenant_id: str) -> None:
    """Brings a running runtime to the lake's newest version; one that sleeps gets it when it boots."""
    async with keeper.database.tenant(tenant_id) as connection:
        vm = await lake_vms.read_vm(connection, tenant_id)
    if vm.state != "running" or vm.applied_version == vm.version:
        return
    try:
        await keeper.deployment.apply(vm)
    except RuntimeGone:
        await _move(keeper, tenant_id, "running", vm.epoch, "paused", cause="lost")
    except ConfigurationRefused:
        return  # logged where it was found; the next change may mend it


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
        elif await _move(keeper, vm.tenant_id, "running", vm.epoch, "hibernating", cause="idle"):
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
    if await _move(keeper, tenant_id, "running", epoch, "paused", cause=reason):
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


async def _raise_up(keeper: Keeper, tenant_id: str, epoch: int, secret: str) -> int:
    """Spawns the process and configures it; returns the configuration's version."""
    try:
        await keeper.host.spawn(tenant_id, epoch, secret)
    except HostUnreachable:
        await asyncio.sleep(HOST_RETRY_SECONDS)
        await keeper.host.spawn(tenant_id, epoch, secret)
    client = await keeper.runtimes.open(
        RuntimeAddress(
            tenant_id=tenant_id,
            epoch=epoch,
            endpoint=keeper.host.endpoint_of(tenant_id, epoch),
            secret=secret,
        )
    )
    return await keeper.deployment.configure(tenant_id, client)


async def _drain(keeper: Keeper, vm: Vm) -> None:
    try:
        client = await keeper.runtimes.client_of(vm)
        await client.ask("POST", "/stop", {"drainSeconds": DRAIN_SECONDS}, seconds=STATUS_SECONDS)
        async with asyncio.timeout(DRAIN_SECONDS + 2):
            while await _is_living(keeper, vm.tenant_id, vm.epoch):  # noqa: ASYNC110 - another process
                await asyncio.sleep(LIVING_LOOK_SECONDS)
    except (RuntimeGone, RuntimeRefused, TimeoutError, HostUnreachable, HostRefused):
        return  # it is ended the hard way


async def _is_living(keeper: Keeper, tenant_id: str, epoch: int) -> bool:
    living = await keeper.host.list()
    return any(runtime.tenant == tenant_id and runtime.epoch == epoch for runtime in living)


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


async def _end(keeper: Keeper, tenant_id: str, epoch: int) -> None:
    try:
        await keeper.host.kill(tenant_id, epoch)
    except (HostUnreachable, HostRefused) as fault:
        # The sweep finds it again: a process that no row tells of.
        log.warning("runtime not ended", tenant_id=tenant_id, epoch=epoch, reason=str(fault))


async def _end_stray(keeper: Keeper, runtime: Living) -> None:
    log.warning("stray runtime ended", tenant_id=runtime.tenant, epoch=runtime.epoch)
    await _end(keeper, runtime.tenant, runtime.epoch)


async def _move(
    keeper: Keeper,
    tenant_id: str,
    state: State,
    epoch: int,
    to: State,
    *,
    cause: str,
    error: str | None = None,
) -> bool:
    async with keeper.database.tenant(tenant_id) as connection:
        moved = await lake_vms.move(connection, tenant_id, state, epoch, to, cause=cause, error=error)
    if moved:
        measures.count_transition(state, to, cause)
        await keeper.doorbell.notify(f"vm:{tenant_id}")
    return moved
