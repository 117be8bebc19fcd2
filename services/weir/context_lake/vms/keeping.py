"""The worker's side of a runtime's life: boot it, bring it up to date, hibernate it."""

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
from weir.context_lake.tables.lake_vms import State, Vm
from weir.context_lake.vms.providers.process import HostRefused, HostUnreachable, ProcessHost
from weir_shared.db.pool import Database
from weir_shared.queue.doorbell import Doorbell
from weir_shared.sealing import SealError, Vault

BOOT_SECONDS = 20
BOOT_LEASE_SECONDS = BOOT_SECONDS + 5
DRAIN_SECONDS = 30
STOP_LEASE_SECONDS = DRAIN_SECONDS + 15
STATUS_SECONDS = 2
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
        await move(keeper, tenant_id, "provisioning", epoch, "error", cause="boot_failed", error=reason)
        await end(keeper, tenant_id, epoch)
        return
    async with keeper.database.tenant(tenant_id) as connection:
        is_running = await lake_vms.mark_running(connection, tenant_id, epoch, version)
    if not is_running:
        # Stopped while it started: nobody else knows of this process.
        await end(keeper, tenant_id, epoch)
        return
    seconds = claim.waited_seconds + time.monotonic() - started
    log.info("runtime started", tenant_id=tenant_id, epoch=epoch, seconds=round(seconds, 3), version=version)
    measures.BOOT_SECONDS.observe(seconds)
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
    await end(keeper, tenant_id, epoch)
    log.info("runtime hibernated", tenant_id=tenant_id, epoch=epoch, forced=force)
    await move(keeper, tenant_id, "hibernating", epoch, "paused", cause="hibernated")


async def apply_newest(keeper: Keeper, tenant_id: str) -> None:
    """Brings a running runtime to the lake's newest version; one that sleeps gets it when it boots."""
    async with keeper.database.tenant(tenant_id) as connection:
        vm = await lake_vms.read_vm(connection, tenant_id)
    if vm.state != "running" or vm.applied_version == vm.version:
        return
    try:
        await keeper.deployment.apply(vm)
    except RuntimeGone:
        await move(keeper, tenant_id, "running", vm.epoch, "paused", cause="lost")
    except ConfigurationRefused:
        return  # logged where it was found; the next change may mend it


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
