"""The worker's rounds for refreshes: schedules become wishes, wishes are rung for, old runs are forgotten."""

import time

from weir.context_lake.refreshes.serving import Server
from weir.context_lake.tables import lake_refreshes
from weir.context_lake.vms.waking import ASLEEP

KEPT_RUNS = 100


async def ring_due_any(server: Server) -> None:
    """Rings for every wish whose time has come; one that nobody is at is rung for again and again."""
    async with server.database.any_tenant() as connection:
        await lake_refreshes.want_scheduled_any(connection)
        due = await lake_refreshes.find_due_any(connection)
    for wish in due:
        # Under a key of its own: a lost worker's ring may still be taken for the running one.
        key = f"{wish.tenant_id}:{wish.name}:{int(time.time())}"
        await server.doorbell.ring("lake.refresh", key=key, tenant_id=wish.tenant_id, name=wish.name)


async def wake_due_any(server: Server) -> None:
    """Wakes the runtimes that sleep over a schedule, where the operator wants that."""
    if not server.wakes:
        return
    async with server.database.any_tenant() as connection:
        sleeping = await lake_refreshes.find_sleeping_due_any(connection)
    for tenant_id in sleeping:
        vm = await server.vms.look(str(tenant_id))
        if vm.state in ASLEEP and vm.state != "error":
            await server.vms.ask_start(vm, "schedule")


async def forget_runs_any(server: Server) -> None:
    async with server.database.any_tenant() as connection:
        await lake_refreshes.forget_runs_any(connection, kept=KEPT_RUNS)
