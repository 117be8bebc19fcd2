"""The desk's side of a runtime's life: have it running, with the newest configuration, however many ask at once."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from msgspec import Struct

from weir.context_lake import measures
from weir.context_lake.deployment import ConfigurationRefused, Deployment
from weir.context_lake.runtimes import RuntimeClient, RuntimeGone, Runtimes
from weir.context_lake.sight import OUTAGE_SECONDS
from weir.context_lake.tables import lake_vms
from weir.context_lake.tables.lake_vms import State, Vm
from weir_shared.db.pool import Database, DatabaseUnavailable
from weir_shared.errors import Conflict, Unavailable
from weir_shared.queue.doorbell import Doorbell

FIRST_LOOK_SECONDS = 0.25
LAST_LOOK_SECONDS = 1.0
REMEMBERED = 4096
# While another process configures the runtime: a matter of milliseconds.
CONFIGURING_LOOK_SECONDS = 0.05
# States from which a wish for a runtime asks for a boot.
ASLEEP: frozenset[State] = frozenset({"not_provisioned", "paused", "error"})


class VmFailed(Unavailable):
    code = "vm_error"

    def __init__(self, reason: str | None) -> None:
        super().__init__(f"The lake's runtime could not be started: {reason or 'the reason is logged'}")


class VmBusy(Conflict):
    code = "vm_busy"


class Ready(Struct, frozen=True):
    """A runtime that may be asked."""

    vm: Vm
    client: RuntimeClient


class Vms:
    """Wakes, stops and gives up runtimes, as the desk asks for it."""

    def __init__(
        self, database: Database, doorbell: Doorbell, runtimes: Runtimes, deployment: Deployment
    ) -> None:
        self._database = database
        self._doorbell = doorbell
        self._runtimes = runtimes
        self._deployment = deployment
        self._found: OrderedDict[str, tuple[float, Vm]] = OrderedDict()

    async def look(self, tenant_id: str) -> Vm:
        async with self._database.tenant(tenant_id) as connection:
            return await lake_vms.read_vm(connection, tenant_id)

    async def find_ready(self, tenant_id: str) -> Ready | None:
        """The runtime, if it runs and has the configuration that it should have.

        While the database is away, the one that was found so within the last minute.
        """
        try:
            vm = await self.look(tenant_id)
        except DatabaseUnavailable:
            vm = self._recent(tenant_id)
            if vm is None:
                raise
            return Ready(vm, await self._runtimes.client_of(vm))
        if vm.state != "running" or not vm.is_settled:
            self._found.pop(tenant_id, None)
            return None
        self._remember(vm)
        return Ready(vm, await self._runtimes.client_of(vm))

    async def ensure_running(self, tenant_id: str, *, cause: str) -> Ready:
        """A running runtime that has the newest configuration, woken and waited for if need be.

        The caller keeps the time. Raises VmFailed as soon as a boot has failed; the boot itself goes on
        when the caller leaves.
        """
        vm = await self.look(tenant_id)
        asked = await self.ask_start(vm, cause) if vm.state in ASLEEP else None
        async with self._notices(tenant_id) as notices:
            while True:
                vm = await self.look(tenant_id)
                match vm.state:
                    case "running" if vm.is_settled:
                        self._remember(vm)
                        return Ready(vm, await self._runtimes.client_of(vm))
                    case "running":
                        await self._catch_up(vm)
                        continue
                    case "error" if asked is None or vm.epoch >= asked:
                        raise VmFailed(vm.last_error)
                    case state if state in ASLEEP:
                        asked = await self.ask_start(vm, cause) or asked
                    case _:
                        pass
                await notices.wait()

    async def ask_start(self, vm: Vm, cause: str) -> int | None:
        """Asks for a boot of the next epoch; None when somebody else has moved the runtime."""
        async with self._database.tenant(vm.tenant_id) as connection:
            await lake_vms.ensure_row(connection, vm.tenant_id)
            epoch = await lake_vms.begin_epoch(connection, vm.tenant_id, vm.state, vm.epoch, cause=cause)
        if epoch is not None:
            measures.count_transition(vm.state, "provisioning", cause)
            await self._doorbell.ring(
                "vm.start", key=f"{vm.tenant_id}:{epoch}", tenant_id=vm.tenant_id, epoch=epoch
            )
        return epoch

    async def ask_stop(self, vm: Vm, *, force: bool) -> bool:
        """Asks for hibernation; False when there is nothing to stop. Raises VmBusy while it boots."""
        if vm.state == "provisioning" and not force:
            raise VmBusy("The lake's runtime is starting; stop it with force=true or when it runs")
        if vm.state not in ("running", "provisioning"):
            return False
        async with self._database.tenant(vm.tenant_id) as connection:
            moved = await lake_vms.move(
                connection, vm.tenant_id, vm.state, vm.epoch, "hibernating", cause="stop"
            )
        if moved:
            measures.count_transition(vm.state, "hibernating", "stop")
            await self._doorbell.ring(
                "vm.stop",
                key=f"{vm.tenant_id}:{vm.epoch}",
                tenant_id=vm.tenant_id,
                epoch=vm.epoch,
                force=force,
            )
        return moved

    async def give_up(self, vm: Vm) -> None:
        """A runtime that is gone: whoever finds out first asks for the next epoch."""
        await self.ask_start(vm, "lost")

    async def ask_redeploy(self, tenant_id: str) -> int:
        """Asks that a running runtime register everything anew; which wish it is.

        A boot that is under way does what was asked for before it was claimed; a later wish follows it.
        """
        async with self._database.tenant(tenant_id) as connection:
            number = await lake_vms.ask_redeploy(connection, tenant_id)
        await self._doorbell.ring("lake.apply", key=f"{tenant_id}:redeploy:{number}", tenant_id=tenant_id)
        return number

    async def wait_until(self, tenant_id: str, is_reached: Callable[[Vm], bool]) -> Vm:
        """The runtime once it is so; the caller keeps the time. Raises VmFailed when it ends in an error."""
        async with self._notices(tenant_id) as notices:
            while not is_reached(vm := await self.look(tenant_id)):
                if vm.state == "error":
                    raise VmFailed(vm.last_error)
                await notices.wait()
        return vm

    async def note_activity(self, tenant_id: str) -> None:
        async with self._database.tenant(tenant_id) as connection:
            await lake_vms.touch(connection, tenant_id)

    def _remember(self, vm: Vm) -> None:
        self._found[vm.tenant_id] = (time.monotonic(), vm)
        self._found.move_to_end(vm.tenant_id)
        while len(self._found) > REMEMBERED:
            self._found.popitem(last=False)

    def _recent(self, tenant_id: str) -> Vm | None:
        at, vm = self._found.get(tenant_id, (0.0, None))
        return vm if vm is not None and time.monotonic() - at <= OUTAGE_SECONDS else None

    async def _catch_up(self, vm: Vm) -> None:
        try:
            if not await self._deployment.apply(vm):
                await asyncio.sleep(CONFIGURING_LOOK_SECONDS)
        except RuntimeGone:
            await self.give_up(vm)
        except ConfigurationRefused as fault:
            raise VmFailed(str(fault)) from None

    @asynccontextmanager
    async def _notices(self, tenant_id: str) -> "AsyncGenerator[_Notices, None]":
        async with self._doorbell.awaiting(f"vm:{tenant_id}") as event:
            yield _Notices(event)


class _Notices:
    """Waits for a notice, and looks anyway after a while: a notice may be lost."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event
        self._patience = FIRST_LOOK_SECONDS

    async def wait(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._event.wait()
            self._event.clear()
        except TimeoutError:
            self._patience = min(self._patience * 2, LAST_LOOK_SECONDS)
