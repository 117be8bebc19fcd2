"""Starting, stopping and redeploying a lake by hand; each of them may be asked twice."""

import asyncio
from typing import Any

from msgspec import Struct

from weir.context_lake.status import shown_state
from weir.context_lake.vms.waking import ASLEEP, Vms
from weir_shared.auth.principal import Principal
from weir_shared.errors import DeadlineExceeded


class Outcome(Struct, frozen=True):
    """What the caller is told, and whether there is nothing left to happen."""

    told: dict[str, Any]
    is_done: bool


async def start(vms: Vms, principal: Principal, *, wait_seconds: int) -> Outcome:
    """Raises VmFailed or DeadlineExceeded when it is waited for."""
    if wait_seconds:
        try:
            async with asyncio.timeout(wait_seconds):
                await vms.ensure_running(principal.tenant_id, cause="start")
        except TimeoutError:
            message = f"The runtime did not start within {wait_seconds} seconds"
            raise DeadlineExceeded(message, details={"phase": "provisioning"}) from None
    vm = await vms.look(principal.tenant_id)
    if vm.state in ASLEEP or vm.state == "hibernating":
        # One that is just falling asleep is woken by whoever waits for it: here, nobody does.
        await vms.ask_start(vm, "start")
        vm = await vms.look(principal.tenant_id)
    return Outcome({"vmStatus": shown_state(vm)}, vm.state == "running")


async def stop(vms: Vms, principal: Principal, *, force: bool) -> Outcome:
    """Raises VmBusy."""
    was_awake = await vms.ask_stop(await vms.look(principal.tenant_id), force=force)
    vm = await vms.look(principal.tenant_id)
    return Outcome({"vmStatus": shown_state(vm)}, not was_awake)


async def redeploy(vms: Vms, principal: Principal) -> Outcome:
    """Raises VmFailed."""
    vm = await vms.look(principal.tenant_id)
    applied = vm.state == "running" and await vms.apply(vm)
    if vm.state == "error":
        await vms.ask_start(vm, "redeploy")
    is_done = applied or vm.state in ("paused", "hibernating", "not_provisioned")
    return Outcome({"version": vm.version, "applied": applied}, is_done)
