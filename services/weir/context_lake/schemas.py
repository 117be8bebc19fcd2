"""What is known of the datasets' columns: told by the runtime while it runs, remembered when it sleeps."""

import base64
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

import structlog
from msgspec import Struct

from weir.context_lake import names
from weir.context_lake.document import Dataset
from weir.context_lake.runtimes import RuntimeClient, RuntimeGone, RuntimeRefused, Runtimes
from weir.context_lake.tables import lake_schemas, lake_vms
from weir.context_lake.tables.lake_schemas import KeptSchema
from weir.context_lake.tables.lake_vms import Vm
from weir_shared.db.pool import Database

ASK_SECONDS = 1
# Beyond so many names all are asked for: a request line has its limits.
NAMED = 40

log = structlog.get_logger(__name__)


class Schemas(Struct, frozen=True):
    """The columns of a lake's datasets, as far as they are known."""

    database: Database
    runtimes: Runtimes

    async def known(self, tenant_id: str, datasets: Iterable[Dataset]) -> dict[str, bytes]:
        """Schemas by dataset name. One that was read from another source, or otherwise, is not known."""
        wanted = {names.key_of(dataset.name): dataset for dataset in datasets}
        if not wanted:
            return {}
        async with self.database.tenant(tenant_id) as connection:
            vm = await lake_vms.read_vm(connection, tenant_id)
            found = await lake_schemas.read_schemas(connection, tenant_id, wanted)
        # One that is about to sleep still answers, until it has told what is remembered of it.
        if vm.state in ("running", "hibernating"):
            client = await self.runtimes.client_of(vm)
            found |= await self._told(tenant_id, client, found, [item.name for item in wanted.values()])
        return {
            dataset.name: found[key].schema
            for key, dataset in wanted.items()
            if key in found and found[key].fingerprint == dataset.fingerprint
        }

    async def remember(self, vm: Vm) -> None:
        """Keeps what a runtime knows, before it goes."""
        await self._told(vm.tenant_id, await self.runtimes.client_of(vm), {}, [])

    async def _told(
        self, tenant_id: str, client: RuntimeClient, before: dict[str, KeptSchema], wanted: list[str]
    ) -> dict[str, KeptSchema]:
        """What the runtime tells, by key; what is new of it is kept. One that does not answer tells nothing."""
        query = urlencode([("name", name) for name in wanted]) if 0 < len(wanted) <= NAMED else ""
        try:
            answer = await client.ask("GET", f"/schemas?{query}", seconds=ASK_SECONDS)
        except (RuntimeGone, RuntimeRefused, TimeoutError) as fault:
            log.info("schemas not told", tenant_id=tenant_id, reason=str(fault))
            return {}
        told = {names.key_of(name): _kept(entry) for name, entry in answer["schemas"].items()}
        changed = {key: schema for key, schema in told.items() if before.get(key) != schema}
        if changed:
            async with self.database.tenant(tenant_id) as connection:
                await lake_schemas.keep_schemas(connection, tenant_id, changed)
        return told


def _kept(entry: dict[str, Any]) -> KeptSchema:
    return KeptSchema(entry["fingerprint"], base64.b64decode(entry["schema"]))
