"""Bringing a lake's newest version to its runtime: the document in the runtime's words, its secrets opened."""

from typing import Any

import structlog

from weir.context_lake import lineage, measures, secrets
from weir.context_lake.connectors import CONNECTORS
from weir.context_lake.document import Dataset
from weir.context_lake.runtimes import RuntimeClient, RuntimeGone, RuntimeRefused, Runtimes
from weir.context_lake.surroundings import Surroundings
from weir.context_lake.tables import lake_vms, lakes
from weir.context_lake.tables.lake_vms import Vm
from weir.context_lake.tables.lakes import SealedLake
from weir_shared.db.pool import Database
from weir_shared.sealing import Vault

CONFIGURE_SECONDS = 10
# Longer than a configuration may take, so that two of them never cross on their way.
LEASE_SECONDS = 20

log = structlog.get_logger(__name__)


class ConfigurationRefused(Exception):
    """The runtime does not take the lake's configuration."""


class Deployment:
    """Configures runtimes."""

    def __init__(
        self, database: Database, vault: Vault, runtimes: Runtimes, surroundings: Surroundings
    ) -> None:
        self._database = database
        self._vault = vault
        self._runtimes = runtimes
        self._surroundings = surroundings

    async def configure(self, tenant_id: str, client: RuntimeClient, *, force: bool = False) -> int:
        """Hands the newest version to a runtime and returns which it was; datasets open there afterwards.

        Raises RuntimeGone, ConfigurationRefused. Only for whoever holds the lease on the runtime.
        """
        async with self._database.tenant(tenant_id) as connection:
            lake = await lakes.read_sealed_lake(connection, tenant_id)
        opened = await secrets.open_all(self._vault, tenant_id, lake.secrets)
        body = compile_lake(lake, opened, self._surroundings, force=force)
        try:
            await client.ask("PUT", "/configuration", body, seconds=CONFIGURE_SECONDS)
        except TimeoutError:
            raise RuntimeGone("the runtime does not take its configuration") from None
        except RuntimeRefused as fault:
            log.error("configuration refused", tenant_id=tenant_id, version=lake.version, reason=str(fault))
            measures.APPLIED.labels("refused").inc()
            raise ConfigurationRefused(str(fault)) from None
        measures.APPLIED.labels("applied").inc()
        return lake.version

    async def apply(self, vm: Vm, *, force: bool = False) -> bool:
        """Brings a running runtime up to date; False when somebody else is at it. Raises as `configure`."""
        async with self._database.tenant(vm.tenant_id) as connection:
            claimed = await lake_vms.claim_lease(
                connection, vm.tenant_id, "running", vm.epoch, seconds=LEASE_SECONDS
            )
        if not claimed:
            return False
        version: int | None = None
        try:
            version = await self.configure(vm.tenant_id, await self._runtimes.client_of(vm), force=force)
        finally:
            async with self._database.tenant(vm.tenant_id) as connection:
                await lake_vms.mark_applied(connection, vm.tenant_id, vm.epoch, version)
        return True


def compile_lake(
    lake: SealedLake, opened: dict[str, str], around: Surroundings, *, force: bool = False
) -> dict[str, Any]:
    """The body of the runtime's `PUT /configuration`; the only place where a document meets its secrets."""
    return {
        "version": lake.version,
        "force": force,
        "datasets": [_compile_dataset(dataset, opened, around) for dataset in lake.document.datasets],
        "views": [{"name": view.name, "sql": view.sql} for view in lineage.in_order(lake.document.views)],
    }


def _compile_dataset(dataset: Dataset, opened: dict[str, str], around: Surroundings) -> dict[str, Any]:
    connector = CONNECTORS[dataset.source.connector]
    source = connector.locate(dataset.source, secrets.with_secrets(dataset.params, opened), around)
    return {
        "name": dataset.name,
        "connector": connector.id,
        "from": dataset.from_,
        "format": source.format,
        "location": source.location,
        "options": source.options,
    }
