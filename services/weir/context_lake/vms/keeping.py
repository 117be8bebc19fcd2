"""The worker's side of a runtime's life: boot it, bring it up to date, hibernate it."""

import asyncio
import secrets
import time
import uuid

import structlog
from msgspec import Struct

from weir.context_lake import measures
from weir.context_lake.deployment import ConfigurationRefused, Deployment
from weir.context_lake.refreshes.startup import want_on_startup
from weir.context_lake.runtimes import (
    RuntimeAddress,
    RuntimeGone,
    RuntimeRefused,
    Runtimes,
    secret_identity,
)
from weir.context_lake.schemas import Schemas
from weir.context_lake.tables import lake_vms
from weir.context_lake.tables.lake_vms import State, Vm
from weir.context_lake.vms.leases import LEASE_SECONDS, renewed
from weir.context_lake.vms.providers.process import HostRefused, HostUnreachable, ProcessHost
from weir_shared.db.pool import Database
from weir_shared.queue.doorbell import Doorbell
from weir_shared.sealing import SealError, Vault

# All attempts of one boot; far below the 180 s that a query may wait.
BOOT_SECONDS = 60
BOOT_JOB_SECONDS = BOOT_SECONDS + 10
# Before the second and the third attempt: a host that was just started takes a moment to listen.
BACKOFF_SECONDS = (0.5, 1.5)
DRAIN_SECONDS = 30
STOP_JOB_SECONDS = DRAIN_SECONDS + 15
APPLY_JOB_SECONDS = 30
# Somebody else is at the runtime: a matter of milliseconds.
APPLY_LOOK_SECONDS = 0.1
STATUS_SECONDS = 2
LIVING_LOOK_SECONDS = 0.05
# As long as a query may take.
LONGEST_ANSWER_SECONDS = 180
_ATTEMPT_FAULTS = (HostUnreachable, HostRefused, RuntimeGone)

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
    recycle_bytes: int
    """Above it a runtime is replaced when it is idle."""
    memory_bytes: int
    """The runtimes' limit, at which the host kills."""
    has_roles: bool = False
    """Whether datasets may be read as their tenant's role, whose keys end."""


async def boot(keeper: Keeper, tenant_id: str, epoch: int) -> None:
    """Starts the runtime of one epoch and gives it its configuration; does nothing when the epoch has passed."""
    owner = str(uuid.uuid4())
    endpoint = keeper.host.endpoint_of(tenant_id, epoch)
    sealed = await keeper.vault.seal(tenant_id, secret_identity(epoch), secrets.token_hex(32))
    async with keeper.database.tenant(tenant_id) as connection:
        claim = await lake_vms.claim_boot(
            connection, tenant_id, epoch, owner, endpoint=endpoint, secret=sealed, seconds=LEASE_SECONDS
        )
    if claim is None:
        return
    started = time.monotonic()
    async with renewed(keeper.database, tenant_id, epoch, owner):
        try:
            async with asyncio.timeout(BOOT_SECONDS):
                secret = await keeper.vault.open(tenant_id, secret_identity(epoch), claim.secret)
                version = await _raise_up(keeper, tenant_id, epoch, secret)
        except (*_ATTEMPT_FAULTS, ConfigurationRefused, SealError, TimeoutError) as fault:
            await _give_boot_up(keeper, tenant_id, epoch, owner, str(fault) or "it was not ready in time")
            return
    async with keeper.database.tenant(tenant_id) as connection:
        is_running = await lake_vms.mark_running(
            connection, tenant_id, epoch, owner, version, redeploys=claim.redeploys_asked
        )
    if not is_running:
        await _end_unless_served(keeper, tenant_id, epoch)
        return
    seconds = claim.waited_seconds + time.monotonic() - started
    log.info("runtime started", tenant_id=tenant_id, epoch=epoch, seconds=round(seconds, 3), version=version)
    measures.BOOT_SECONDS.observe(seconds)
    measures.count_transition("provisioning", "running", "boot")
    await want_on_startup(keeper.database, tenant_id, epoch)
    await keeper.doorbell.notify(f"vm:{tenant_id}")


async def hibernate(keeper: Keeper, tenant_id: str, epoch: int, *, force: bool = False) -> None:
    """Lets the running answers of a hibernating runtime end (30 s), then ends it; its cache stays."""
    owner = str(uuid.uuid4())
    async with keeper.database.tenant(tenant_id) as connection:
        claimed = await lake_vms.claim_lease(
            connection, tenant_id, "hibernating", epoch, owner, seconds=LEASE_SECONDS
        )
        vm = await lake_vms.read_vm(connection, tenant_id)
    if not claimed:
        return
    async with renewed(keeper.database, tenant_id, epoch, owner):
        if vm.secret is not None:
            await Schemas(keeper.database, keeper.runtimes).remember(vm)
            if not force:
                await _drain(keeper, vm)
        await end(keeper, tenant_id, epoch)
    log.info("runtime hibernated", tenant_id=tenant_id, epoch=epoch, forced=force)
    await move(keeper, tenant_id, "hibernating", epoch, "paused", cause="hibernated")


async def apply_newest(keeper: Keeper, tenant_id: str) -> None:
    """Gives a running runtime what it should have by now; one that sleeps gets it when it boots."""
    while not (vm := await look(keeper, tenant_id)).is_settled and vm.state == "running":
        try:
            if await keeper.deployment.apply(vm):
                await keeper.doorbell.notify(f"vm:{tenant_id}")
            else:
                await asyncio.sleep(APPLY_LOOK_SECONDS)
        except RuntimeGone:
            await move(keeper, tenant_id, "running", vm.epoch, "paused", cause="lost")
        except ConfigurationRefused:
            return  # logged where it was found; the next change may mend it


async def replace(keeper: Keeper, vm: Vm, *, cause: str) -> bool:
    """Puts a fresh process in a running one's place; what the old one still answers ends there, unhurried.

    False when the runtime is elsewhere by now.
    """
    try:
        client = await keeper.runtimes.client_of(vm)
        await client.ask("POST", "/stop", {"drainSeconds": LONGEST_ANSWER_SECONDS}, seconds=STATUS_SECONDS)
        await keeper.host.let_go(vm.tenant_id, vm.epoch, seconds=LONGEST_ANSWER_SECONDS)
    except (RuntimeGone, RuntimeRefused, TimeoutError, HostUnreachable, HostRefused) as fault:
        log.warning("runtime not replaced", tenant_id=vm.tenant_id, epoch=vm.epoch, reason=str(fault))
        return False
    async with keeper.database.tenant(vm.tenant_id) as connection:
        epoch = await lake_vms.begin_epoch(connection, vm.tenant_id, "running", vm.epoch, cause=cause)
    if epoch is None:
        return False
    measures.count_transition("running", "provisioning", cause)
    log.info("runtime replaced", tenant_id=vm.tenant_id, epoch=epoch, cause=cause)
    await keeper.doorbell.ring("vm.start", key=f"{vm.tenant_id}:{epoch}", tenant_id=vm.tenant_id, epoch=epoch)
    return True


async def look(keeper: Keeper, tenant_id: str) -> Vm:
    async with keeper.database.tenant(tenant_id) as connection:
        return await lake_vms.read_vm(connection, tenant_id)


async def _raise_up(keeper: Keeper, tenant_id: str, epoch: int, secret: str) -> int:
    """Spawns the process and configures it, three times at most; returns the configuration's version."""
    for seconds in BACKOFF_SECONDS:
        try:
            return await _raise_once(keeper, tenant_id, epoch, secret)
        except _ATTEMPT_FAULTS as fault:
            log.warning("boot tried again", tenant_id=tenant_id, epoch=epoch, reason=str(fault))
        await asyncio.sleep(seconds)
        # A process that did not take its configuration is not asked again.
        await end(keeper, tenant_id, epoch)
    return await _raise_once(keeper, tenant_id, epoch, secret)


async def _raise_once(keeper: Keeper, tenant_id: str, epoch: int, secret: str) -> int:
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


async def _give_boot_up(keeper: Keeper, tenant_id: str, epoch: int, owner: str, reason: str) -> None:
    log.error("runtime not started", tenant_id=tenant_id, epoch=epoch, reason=reason)
    async with keeper.database.tenant(tenant_id) as connection:
        is_mine = await lake_vms.mark_failed(connection, tenant_id, epoch, owner, reason)
    if is_mine:
        measures.count_transition("provisioning", "error", "boot_failed")
        await keeper.doorbell.notify(f"vm:{tenant_id}")
        await end(keeper, tenant_id, epoch)
    else:
        await _end_unless_served(keeper, tenant_id, epoch)


async def _end_unless_served(keeper: Keeper, tenant_id: str, epoch: int) -> None:
    """Ends a process that was stopped while it started: nobody else knows of it.

    Where another worker has taken this boot over, because this one was held up, the process is his.
    """
    vm = await look(keeper, tenant_id)
    if vm.epoch != epoch or vm.state not in ("provisioning", "running"):
        await end(keeper, tenant_id, epoch)


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


async def end(keeper: Keeper, tenant_id: str, epoch: int) -> None:
    try:
        await keeper.host.kill(tenant_id, epoch)
    except (HostUnreachable, HostRefused) as fault:
        # The sweep finds it again: a process that no row tells of.
        log.warning("runtime not ended", tenant_id=tenant_id, epoch=epoch, reason=str(fault))


async def move(
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
