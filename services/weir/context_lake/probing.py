"""Opening a dataset's source before the dataset is kept: in the tenant's runtime, never in this process."""

import asyncio
from typing import Any

import msgspec

from weir.context_lake import secrets
from weir.context_lake.changing import FoundColumn, Probe, Terms
from weir.context_lake.deployment import compile_dataset, with_roles
from weir.context_lake.document import Dataset, Revision, references_of
from weir.context_lake.refusals import RuntimeLost, error_of
from weir.context_lake.roles import Lender
from weir.context_lake.runtimes import RuntimeGone, RuntimeRefused
from weir.context_lake.surroundings import Surroundings
from weir.context_lake.tables import lakes
from weir.context_lake.vms.waking import Vms
from weir_shared.db.pool import Database
from weir_shared.errors import DeadlineExceeded, FieldError, InvalidRequest
from weir_shared.sealing import Vault

# What a source may take, from a running runtime on.
PROBE_SECONDS = 15.0
WAKE_SECONDS = 120.0


class SourceUnreachable(InvalidRequest):
    """The source could not be opened; nothing was kept."""

    code = "source_unreachable"

    def __init__(self, reason: str) -> None:
        super().__init__(reason, errors=[FieldError(path="from", message=reason, code=self.code)])


class ProbeTimedOut(DeadlineExceeded):
    def __init__(self, what: str, phase: str) -> None:
        super().__init__(f"{what}; the dataset was not kept", details={"phase": phase})


class Prober:
    """Asks tenants' runtimes to open sources that are not theirs yet."""

    def __init__(
        self, database: Database, vault: Vault, vms: Vms, surroundings: Surroundings, lender: Lender
    ) -> None:
        self._database = database
        self._vault = vault
        self._vms = vms
        self._surroundings = surroundings
        self._lender = lender

    def of(self, tenant_id: str, name: str, terms: Terms) -> Probe | None:
        """The probe of one request's dataset, if the request asks for it."""
        if not terms.probe:
            return None
        known: dict[bytes, list[FoundColumn]] = {}

        async def probe(revision: Revision) -> list[FoundColumn]:
            dataset = revision.document.find_dataset(name)
            assert dataset is not None, "the revision is about it"
            body = await self._compiled(tenant_id, dataset, revision)
            # A change that is made again on a newer lake need not look again at the same source.
            key = msgspec.json.encode(body)
            if key not in known:
                known[key] = await self._ask(tenant_id, body)
            return known[key]

        return probe

    async def _compiled(self, tenant_id: str, dataset: Dataset, revision: Revision) -> dict[str, Any]:
        """The dataset with its secrets: those of the request, and those that were sealed before."""
        references = references_of(dataset) - revision.literals.keys()
        sealed: dict[str, bytes] = {}
        if references:
            async with self._database.tenant(tenant_id) as connection:
                lake = await lakes.read_sealed_lake(connection, tenant_id)
            sealed = {name: lake.secrets[name] for name in references if name in lake.secrets}
        opened = await secrets.open_all(self._vault, tenant_id, sealed)
        compiled = compile_dataset(
            dataset, opened | revision.literals, self._surroundings.of_tenant(tenant_id)
        )
        await with_roles([compiled], self._lender, tenant_id)
        return {"dataset": compiled}

    async def _ask(self, tenant_id: str, body: dict[str, Any]) -> list[FoundColumn]:
        """Raises SourceUnreachable, VmFailed, RuntimeLost, ProbeTimedOut."""
        for _ in range(2):
            try:
                async with asyncio.timeout(WAKE_SECONDS):
                    ready = await self._vms.find_ready(tenant_id) or await self._vms.ensure_running(
                        tenant_id, cause="probe"
                    )
            except TimeoutError:
                raise ProbeTimedOut("The lake's runtime did not start in time", "provisioning") from None
            try:
                answer = await ready.client.ask("POST", "/probe", body, seconds=PROBE_SECONDS)
                await self._vms.note_activity(tenant_id)
                return msgspec.convert(answer["columns"], list[FoundColumn])
            except TimeoutError:
                raise SourceUnreachable(f"no answer within {PROBE_SECONDS:.0f} s") from None
            except RuntimeRefused as refusal:
                if refusal.code == "source_error":
                    raise SourceUnreachable(str(refusal)) from None
                raise error_of(refusal) from None
            except RuntimeGone:
                await self._vms.give_up(ready.vm)
        raise RuntimeLost
