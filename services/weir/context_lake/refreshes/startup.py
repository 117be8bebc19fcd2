"""What a start of a runtime and its sleep have to do with refreshes."""

from weir.context_lake import names
from weir.context_lake.tables import lake_refreshes, lake_vms, lakes
from weir_shared.db.pool import Database

# A runtime with a refresh due this soon is not put to sleep for it.
NEAR_SECONDS = 120.0


async def want_on_startup(database: Database, tenant_id: str, epoch: int) -> None:
    """A runtime has started: what asks for it is read again, whatever was found on its disk."""
    async with database.tenant(tenant_id) as connection:
        vm = await lake_vms.read_vm(connection, tenant_id)
        if vm.state != "running" or vm.epoch != epoch:
            return
        document = (await lakes.read_lake(connection, tenant_id)).document
        for item in sorted((*document.datasets, *document.views), key=lambda item: names.key_of(item.name)):
            kept = item.kept
            # What lives in memory only is read at every start anyway.
            if (
                kept is not None
                and kept.refresh_on_startup == "always"
                and kept.engine not in (None, "arrow")
            ):
                await lake_refreshes.want(connection, tenant_id, names.key_of(item.name), trigger="schedule")
