"""Making the next version of a lake: on what terms, by compare-and-set, and with an answer that can be given again."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar

from msgspec import Struct, field

from weir.context_lake import names, secrets, settling
from weir.context_lake.columns import Columns
from weir.context_lake.config import Edit
from weir.context_lake.document import Authorship, Changes, Document, Revision
from weir.context_lake.notifications import provisioning
from weir.context_lake.notifications.provisioning import NOTHING, Prepared, Provisioning
from weir.context_lake.notifications.queues import Queues
from weir.context_lake.refreshes import schedules
from weir.context_lake.remembered import Documents
from weir.context_lake.surroundings import Surroundings
from weir.context_lake.tables import lake_answers, lake_imports, lake_schemas, lake_secrets, lakes
from weir.context_lake.tables.lake_answers import KeptAnswer
from weir.context_lake.tables.lake_notifications import Queue
from weir.context_lake.tables.lake_schemas import KeptSchema
from weir.context_lake.tables.lakes import StoredLake
from weir.context_lake.turns import Turns
from weir_shared import clock
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Connection, Database
from weir_shared.errors import Conflict, FieldError, PayloadTooLarge, WeirError
from weir_shared.queue.doorbell import Doorbell
from weir_shared.sealing import Vault

# How often a change is made again on what another one has just written.
ATTEMPTS = 40


class NameTaken(Conflict):
    code = "name_conflict"

    def __init__(self, name: str) -> None:
        super().__init__(f"The name '{name}' is in use")


class LakeBusy(Conflict):
    code = "version_conflict"

    def __init__(self) -> None:
        super().__init__("The lake is being changed by others; try again", headers={"Retry-After": "1"})


class VersionMismatch(WeirError):
    status: ClassVar[int] = 412
    code = "version_conflict"

    def __init__(self, version: int) -> None:
        super().__init__(f"The lake is at version {version} by now", headers={"ETag": etag_of(version)})


class KeyReused(Conflict):
    code = "idempotency_key_reuse"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key has been used for another request")


class ImportsFull(PayloadTooLarge):
    code = "imports_full"

    def __init__(self, quota_bytes: int) -> None:
        super().__init__(
            f"The uploads of one tenant take at most {quota_bytes // 1024**2} MiB in all; drop one first"
        )


class Catalogue(Struct, frozen=True):
    """What a change of a lake needs."""

    database: Database
    vault: Vault
    doorbell: Doorbell
    surroundings: Surroundings
    columns: Columns
    documents: Documents
    turns: Turns
    queues: Queues


class Retry(Struct, frozen=True):
    """Under which key a request may come again, and what tells it from another one."""

    key: str
    request_hash: bytes


class Terms(Struct, frozen=True, kw_only=True):
    """What a caller asks of a change besides its content."""

    versions: frozenset[int] | None = None
    """The versions on which it may be made; None: any."""
    validate_only: bool = False
    probe: bool = False
    """Whether a dataset's source is opened before the change is made."""
    retry: Retry | None = None


class FoundColumn(Struct, frozen=True):
    """A column of a source, its type in Arrow's words."""

    name: str
    type: str
    nullable: bool


class Written(Struct, frozen=True, kw_only=True):
    """The outcome of a change: the lake's version, and what deserves a word."""

    version: int
    document: Document
    warnings: list[FieldError] = []
    changes: Changes = Changes()
    is_kept: bool = True
    """False when it was only tried."""
    queues: Mapping[str, Queue] = field(default_factory=dict[str, Queue])
    """Of the datasets that have notifications, by the keys of their names."""
    columns: list[FoundColumn] | None = None
    """What a probe has found; None: it was not asked for."""


class Reply(Struct, frozen=True, kw_only=True):
    """An answer in its final form, so that it can be kept with the change and given again."""

    status: int
    body: bytes
    headers: dict[str, str]


Tell = Callable[[Written], Reply]
Plan = Callable[[StoredLake, Authorship], Awaitable[Revision | None]]
Probe = Callable[[Revision], Awaitable[list[FoundColumn]]]


async def read_lake(catalogue: Catalogue, principal: Principal) -> StoredLake:
    async with catalogue.database.tenant(principal.tenant_id) as connection:
        return await catalogue.documents.read_lake(connection, principal.tenant_id)


async def edit_lake(
    catalogue: Catalogue,
    principal: Principal,
    edit: Callable[[StoredLake, Edit], None],
    *,
    reason: str,
    terms: Terms,
    tell: Tell,
    probe: Probe | None = None,
) -> Reply:
    """`edit` puts its operations on the edit, and may refuse by raising. Raises as `revise`, ValidationFailed."""

    async def plan(lake: StoredLake, by: Authorship) -> Revision | None:
        started = Edit(lake.document, by)
        edit(lake, started)
        if started.is_empty:
            return None
        if started.parses:
            revision = await asyncio.to_thread(started.finish, catalogue.surroundings)
        else:
            revision = started.finish(catalogue.surroundings)
        asked = settling.views_to_judge(started, revision)
        if not asked:
            return revision
        verdicts = await catalogue.columns.judge(principal.tenant_id, revision.document, asked)
        return settling.settle(started, revision, verdicts)

    return await revise(catalogue, principal, plan, reason=reason, terms=terms, tell=tell, probe=probe)


async def revise(
    catalogue: Catalogue,
    principal: Principal,
    plan: Plan,
    *,
    reason: str,
    terms: Terms,
    tell: Tell,
    probe: Probe | None = None,
) -> Reply:
    """Makes the next version of a lake: read, plan aside, probe, seal, write if nobody else has written.

    Writers of one process take turns; those of another are found out by the version that they leave. `plan` is
    then called again on the newer lake; None means that there is nothing to change. `probe` looks at a revision's
    source and may refuse it; it is called with every plan, and remembers. Queues that a revision needs are made
    before it is kept.
    Raises ProvisioningFailed, VersionMismatch, KeyReused, LakeBusy when others go on and on, and whatever `plan` does.
    """
    by = Authorship(principal.identity, clock.rfc3339(clock.now()), principal.is_admin)
    if probe is not None:
        # A source may take its time: nobody else waits for a turn behind it.
        await _probe_ahead(catalogue, principal, plan, terms, by, probe)
    async with catalogue.turns.of(principal.tenant_id):
        return await _revise(catalogue, principal, plan, reason, terms, tell, by, probe)


async def _probe_ahead(
    catalogue: Catalogue, principal: Principal, plan: Plan, terms: Terms, by: Authorship, probe: Probe
) -> None:
    lake, answered = await _look(catalogue, principal, terms)
    if answered is None and (terms.versions is None or lake.version in terms.versions):
        revision = await plan(lake, by)
        if revision is not None:
            await probe(revision)


async def _revise(
    catalogue: Catalogue,
    principal: Principal,
    plan: Plan,
    reason: str,
    terms: Terms,
    tell: Tell,
    by: Authorship,
    probe: Probe | None,
) -> Reply:
    queues = Provisioning(catalogue.database, catalogue.queues, principal.tenant_id)
    for attempt in range(ATTEMPTS):
        lake, answered = await _look(catalogue, principal, terms)
        if answered is not None:
            return answered
        if terms.versions is not None and lake.version not in terms.versions:
            raise VersionMismatch(lake.version)
        revision = await plan(lake, by)
        if revision is None:
            prepared = await queues.prepare(lake.document, lake.document, is_trial=True)
            return tell(Written(version=lake.version, document=lake.document, queues=prepared.queues))
        columns = None if probe is None else await probe(revision)
        prepared = await queues.prepare(lake.document, revision.document, is_trial=terms.validate_only)
        written = Written(
            version=lake.version if terms.validate_only else lake.version + 1,
            document=revision.document,
            warnings=revision.warnings,
            changes=revision.changes,
            is_kept=not terms.validate_only,
            queues=prepared.queues,
            columns=columns,
        )
        reply = tell(written)
        if terms.validate_only:
            return reply
        if await _write(catalogue, principal, written, revision, prepared, reason, terms.retry, reply):
            tenant_id = principal.tenant_id
            key = f"{tenant_id}:{written.version}"
            await catalogue.doorbell.ring("lake.apply", key=key, tenant_id=tenant_id)
            return reply
        await asyncio.sleep(random.uniform(0, 0.01) * (attempt + 1))  # noqa: S311
    raise LakeBusy


async def find_answer(catalogue: Catalogue, principal: Principal, terms: Terms) -> Reply | None:
    """What the same request was answered before, under the key that it carries. Raises KeyReused."""
    return (await _look(catalogue, principal, terms))[1]


async def _look(catalogue: Catalogue, principal: Principal, terms: Terms) -> tuple[StoredLake, Reply | None]:
    """The lake, then the answer that the same request may have had: in this order, so that whoever sees
    a twin's change also sees its answer."""
    tenant_id, retry = principal.tenant_id, terms.retry
    async with catalogue.database.tenant(tenant_id) as connection:
        lake = await catalogue.documents.read_lake(connection, tenant_id)
        if retry is None:
            return lake, None
        kept = await lake_answers.find_answer(connection, tenant_id, principal.identity, retry.key)
    if kept is None:
        return lake, None
    if kept.request_hash != retry.request_hash:
        raise KeyReused
    return lake, Reply(status=kept.status, body=kept.body, headers=kept.headers)


async def _write(
    catalogue: Catalogue,
    principal: Principal,
    written: Written,
    revision: Revision,
    prepared: Prepared,
    reason: str,
    retry: Retry | None,
    reply: Reply,
) -> bool:
    tenant_id, author = principal.tenant_id, principal.identity
    # Sealed before the transaction: the first seal of a tenant makes its data key in one of its own.
    sealed = await secrets.seal_all(catalogue.vault, tenant_id, revision.literals)
    async with catalogue.database.tenant(tenant_id) as connection:
        if not await lakes.advance(connection, tenant_id, written.version - 1):
            return False
        await lakes.append_config(
            connection, tenant_id, written.version, revision.document, author=author, reason=reason
        )
        if sealed:
            await lake_secrets.keep_secrets(connection, tenant_id, sealed)
        if prepared is not NOTHING:
            await provisioning.write_down(connection, tenant_id, prepared)
        await schedules.write_down(connection, tenant_id, revision)
        if gone := revision.changes.datasets.removed:
            await lake_schemas.drop_schemas(connection, tenant_id, [names.key_of(name) for name in gone])
        await _keep_imports(connection, tenant_id, author, revision, catalogue.surroundings)
        if revision.dropped:
            await lake_secrets.drop_secrets(connection, tenant_id, revision.dropped)
        if retry is not None:
            kept = KeptAnswer(
                request_hash=retry.request_hash, status=reply.status, headers=reply.headers, body=reply.body
            )
            await lake_answers.keep_answer(connection, tenant_id, author, retry.key, kept)
    return True


async def _keep_imports(
    connection: Connection, tenant_id: str, author: str, revision: Revision, around: Surroundings
) -> None:
    """Raises ImportsFull; the lake's row, which is held by now, lets one change of a tenant count at a time."""
    if revision.dropped_imports:
        await lake_imports.drop_imports(connection, tenant_id, revision.dropped_imports)
    for brought in revision.brought:
        await lake_imports.add_import(connection, tenant_id, brought.file, size=brought.size, author=author)
        dataset = revision.document.find_dataset(brought.name)
        assert dataset is not None, "a file is brought for a dataset"
        schema = KeptSchema(dataset.fingerprint, brought.schema)
        await lake_schemas.keep_schemas(connection, tenant_id, {names.key_of(brought.name): schema})
    if (
        revision.brought
        and await lake_imports.total_bytes(connection, tenant_id) > around.imports_quota_bytes
    ):
        raise ImportsFull(around.imports_quota_bytes)


def etag_of(version: int) -> str:
    return f'"v{version}"'
