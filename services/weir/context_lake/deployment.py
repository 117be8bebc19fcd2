"""Bringing a lake's newest version to its runtime: the document in the runtime's words, its secrets opened."""

import hashlib
import uuid
from typing import Any

import msgspec
import structlog

from weir.context_lake import lineage, measures, names, secrets
from weir.context_lake.connectors import CONNECTORS
from weir.context_lake.document import Dataset, Document, View
from weir.context_lake.embedded import embedded_of
from weir.context_lake.refreshes.acceleration import keeping_of
from weir.context_lake.roles import Lender, role_options
from weir.context_lake.runtimes import RuntimeClient, RuntimeGone, RuntimeRefused, Runtimes
from weir.context_lake.surroundings import Surroundings
from weir.context_lake.tables import lake_vms, lakes
from weir.context_lake.tables.lake_vms import Vm
from weir.context_lake.tables.lakes import SealedLake
from weir.context_lake.vms.leases import LEASE_SECONDS, renewed
from weir_shared.db.pool import Database
from weir_shared.sealing import Vault

CONFIGURE_SECONDS = 10

log = structlog.get_logger(__name__)


class ConfigurationRefused(Exception):
    """The runtime does not take the lake's configuration."""


class Deployment:
    """Configures runtimes."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        runtimes: Runtimes,
        surroundings: Surroundings,
        lender: Lender,
    ) -> None:
        self._database = database
        self._vault = vault
        self._runtimes = runtimes
        self._surroundings = surroundings
        self._lender = lender

    async def configure(
        self, tenant_id: str, client: RuntimeClient, *, version: int | None = None, force: bool = False
    ) -> int:
        """Hands a version, else the newest, to a runtime and returns which it was; datasets open there afterwards.

        Raises RuntimeGone, ConfigurationRefused. Only for whoever holds the lease on the runtime.
        """
        async with self._database.tenant(tenant_id) as connection:
            lake = await lakes.read_sealed_lake(connection, tenant_id, version=version)
        if version is not None and lake.version != version:
            raise ConfigurationRefused(f"version {version} is not kept any more")
        opened = await secrets.open_all(self._vault, tenant_id, lake.secrets)
        body = compile_lake(lake, opened, self._surroundings.of_tenant(tenant_id), force=force)
        await with_roles(body["datasets"], self._lender, tenant_id)
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

    async def apply(self, vm: Vm, *, renews_keys: bool = False) -> bool:
        """Brings a running runtime up to date; False when somebody else is at it. Raises as `configure`.

        What somebody else has applied meanwhile is not applied twice, unless keys are to be renewed. An open wish
        for a redeploy has every dataset registered anew.
        """
        owner = str(uuid.uuid4())
        async with self._database.tenant(vm.tenant_id) as connection:
            claimed = await lake_vms.claim_lease(
                connection, vm.tenant_id, "running", vm.epoch, owner, seconds=LEASE_SECONDS
            )
            now = await lake_vms.read_vm(connection, vm.tenant_id)
        if not claimed:
            return False
        version: int | None = None
        try:
            if now.is_settled and not renews_keys:
                return True
            # A lake that does not apply by itself stays at its version while its keys are renewed.
            held = now.applied_version if now.is_settled and not now.auto_apply else None
            async with renewed(self._database, vm.tenant_id, vm.epoch, owner):
                client = await self._runtimes.client_of(vm)
                version = await self.configure(vm.tenant_id, client, version=held, force=now.is_redeploy_open)
        finally:
            redeploys = None if version is None else now.redeploys_asked
            async with self._database.tenant(vm.tenant_id) as connection:
                await lake_vms.mark_applied(
                    connection, vm.tenant_id, vm.epoch, owner, version, redeploys=redeploys
                )
        return True


async def with_roles(compiled: list[dict[str, Any]], lender: Lender, tenant_id: str) -> None:
    """Puts the keys of the tenant's role into the datasets that are read as it."""
    for dataset in compiled:
        if dataset["connector"] == "s3" and dataset["options"].get("auth") == "iam_role":
            dataset["options"] |= await role_options(lender, tenant_id)


def compile_lake(
    lake: SealedLake, opened: dict[str, str], around: Surroundings, *, force: bool = False
) -> dict[str, Any]:
    """The body of the runtime's `PUT /configuration`; a document meets its secrets here only."""
    return {
        "version": lake.version,
        "force": force,
        "embeddings": around.embeddings_url,
        "keptBytes": around.kept_bytes,
        "datasets": [compile_dataset(dataset, opened, around) for dataset in lake.document.datasets],
        "views": _compile_views(lake.document),
    }


def _compile_views(document: Document) -> list[dict[str, Any]]:
    """In dependency order. A view that is kept bears a mark of everything that it is made of."""
    marks = {names.key_of(dataset.name): dataset.fingerprint for dataset in document.datasets}
    compiled: list[dict[str, Any]] = []
    for view in lineage.in_order(document.views):
        under = [marks.get(read, "") for read in view.reads]
        mark = hashlib.sha256(msgspec.json.encode([view.sql, under])).hexdigest()[:32]
        marks[names.key_of(view.name)] = mark
        body: dict[str, Any] = {"name": view.name, "sql": view.sql}
        if (keeping := _keeping(view)) is not None:
            body |= {"fingerprint": mark, "keeping": keeping}
        compiled.append(body)
    return compiled


def _keeping(item: Dataset | View) -> dict[str, Any] | None:
    return keeping_of(
        item.kept,
        time_column=item.time_column,
        time_format=item.time_format,
        ready_state=item.ready_state,
    )


def compile_dataset(dataset: Dataset, opened: dict[str, str], around: Surroundings) -> dict[str, Any]:
    """One dataset as the runtime reads it; `opened` are secrets by their references."""
    connector = CONNECTORS[dataset.source.connector]
    source = connector.locate(dataset.source, secrets.with_secrets(dataset.params, opened), around)
    columns = {"file_columns": dataset.file_columns} if dataset.file_columns else {}
    return {
        "name": dataset.name,
        "connector": connector.id,
        "from": dataset.from_,
        "format": source.format,
        "location": source.location,
        "options": source.options | columns,
        "roots": source.roots,
        "fingerprint": dataset.fingerprint,
        "embedded": embedded_of(dataset.columns),
        "keeping": _keeping(dataset),
    }
