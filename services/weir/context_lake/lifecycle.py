"""Starting, stopping and redeploying a lake by hand; each of them may be asked twice, and waited for."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct

from weir.context_lake.status import shown_state
from weir.context_lake.tables import lakes
from weir.context_lake.vms.waking import ASLEEP, Vms
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Database
from weir_shared.errors import DeadlineExceeded


class Outcome(Struct, frozen=True):
    """What the caller is told, and whether there is nothing left to happen."""

    told: dict[str, Any]
    is_done: bool


class LakeSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a lake is run."""

    autoApply: bool
    """Whether a running runtime gets each new version by itself; else with a redeploy or its next start."""


async def start(vms: Vms, principal: Principal, *, wait_seconds: int) -> Outcome:
    """Raises VmFailed or DeadlineExceeded when it is waited for."""
    if wait_seconds:
        async with _waiting(wait_seconds, "The runtime did not start", "provisioning"):
            await vms.ensure_running(principal.tenant_id, cause="start")
    vm = await vms.look(principal.tenant_id)
    if vm.state in ASLEEP or vm.state == "hibernating":
        # One that is just falling asleep is woken by whoever waits for it: here, nobody does.
        await vms.ask_start(vm, "start")
        vm = await vms.look(principal.tenant_id)
    return Outcome({"vmStatus": shown_state(vm)}, vm.state == "running")


async def stop(vms: Vms, principal: Principal, *, force: bool, wait_seconds: int) -> Outcome:
    """Raises VmBusy, and DeadlineExceeded when it is waited for."""
    before = await vms.look(principal.tenant_id)
    is_stopping = await vms.ask_stop(before, force=force)
    if wait_seconds and (is_stopping or before.state == "hibernating"):
        async with _waiting(wait_seconds, "The runtime did not stop", "hibernating"):
            # A query may have woken it again meanwhile: it has been stopped all the same.
            await vms.wait_until(
                principal.tenant_id, lambda vm: vm.state == "paused" or vm.epoch > before.epoch
            )
        is_stopping = False
    vm = await vms.look(principal.tenant_id)
    return Outcome({"vmStatus": shown_state(vm)}, not is_stopping)


async def redeploy(vms: Vms, principal: Principal, *, wait_seconds: int) -> Outcome:
    """Raises VmFailed or DeadlineExceeded when it is waited for."""
    vm = await vms.look(principal.tenant_id)
    if vm.state in ("paused", "hibernating", "not_provisioned"):
        # A start registers everything anew.
        return Outcome({"version": vm.version, "applied": False}, is_done=True)
    if vm.state == "error":
        await vms.ask_start(vm, "redeploy")
    number = await vms.ask_redeploy(principal.tenant_id)
    if not wait_seconds:
        return Outcome({"version": vm.version, "applied": False}, is_done=False)
    async with _waiting(wait_seconds, "The lake was not redeployed", "provisioning"):
        vm = await vms.wait_until(
            principal.tenant_id, lambda vm: vm.redeploys_done >= number or vm.state == "paused"
        )
    return Outcome({"version": vm.version, "applied": vm.redeploys_done >= number}, is_done=True)


async def read_settings(database: Database, principal: Principal) -> LakeSettings:
    async with database.tenant(principal.tenant_id) as connection:
        return LakeSettings(autoApply=await lakes.auto_applies(connection, principal.tenant_id))


async def change_settings(database: Database, principal: Principal, wanted: LakeSettings) -> LakeSettings:
    """What drifted while the lake did not apply by itself is applied by the next query, or within seconds."""
    async with database.tenant(principal.tenant_id) as connection:
        await lakes.set_auto_apply(connection, principal.tenant_id, wanted.autoApply)
    return wanted


@asynccontextmanager
async def _waiting(seconds: int, fault: str, phase: str) -> AsyncGenerator[None, None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DeadlineExceeded(f"{fault} within {seconds} seconds", details={"phase": phase}) from None
