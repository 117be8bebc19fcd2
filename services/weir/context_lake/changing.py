"""Making the next version of a lake: on what terms, by compare-and-set, and with an answer that can be given again."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import ClassVar

from msgspec import Struct

from weir.context_lake import secrets
from weir.context_lake.config import Edit
from weir.context_lake.document import Authorship, Changes, Document, Revision
from weir.context_lake.surroundings import Surroundings
from weir.context_lake.tables import lake_answers, lake_secrets, lakes
from weir.context_lake.tables.lake_answers import KeptAnswer
from weir.context_lake.tables.lakes import StoredLake
from weir_shared import clock
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Database
from weir_shared.errors import Conflict, FieldError, WeirError
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


class Catalogue(Struct, frozen=True):
    """What a change of a lake needs."""

    database: Database
    vault: Vault
    doorbell: Doorbell
    surroundings: Surroundings


class Retry(Struct, frozen=True):
    """Under which key a request may come again, and what tells it from another one."""

    key: str
    request_hash: bytes


class Terms(Struct, frozen=True, kw_only=True):
    """What a caller asks of a change besides its content."""

    versions: frozenset[int] | None = None
    """The versions on which it may be made; None: any."""
    validate_only: bool = False
    retry: Retry | None = None


class Written(Struct, frozen=True, kw_only=True):
    """The outcome of a change: the lake's version, and what deserves a word."""

    version: int
    document: Document
    warnings: list[FieldError] = []
    changes: Changes = Changes()
    is_kept: bool = True
    """False when it was only tried."""


class Reply(Struct, frozen=True, kw_only=True):
    """An answer in its final form, so that it can be kept with the change and given again."""

    status: int
    body: bytes
    headers: dict[str, str]


Tell = Callable[[Written], Reply]
Plan = Callable[[StoredLake, Authorship], Awaitable[Revision | None]]


async def read_lake(catalogue: Catalogue, principal: Principal) -> StoredLake:
    async with catalogue.database.tenant(principal.tenant_id) as connection:
        return await lakes.read_lake(connection, principal.tenant_id)


async def edit_lake(
    catalogue: Catalogue,
    principal: Principal,
    edit: Callable[[StoredLake, Edit], None],
    *,
    reason: str,
    terms: Terms,
    tell: Tell,
) -> Reply:
    """`edit` puts its operations on the edit, and may refuse by raising. Raises as `revise`, ValidationFailed."""

    async def plan(lake: StoredLake, by: Authorship) -> Revision | None:
        started = Edit(lake.document, by)
        edit(lake, started)
        if started.is_empty:
            return None
        if started.parses:
            return await asyncio.to_thread(started.finish, catalogue.surroundings)
        return started.finish(catalogue.surroundings)

    return await revise(catalogue, principal, plan, reason=reason, terms=terms, tell=tell)


async def revise(
    catalogue: Catalogue, principal: Principal, plan: Plan, *, reason: str, terms: Terms, tell: Tell
) -> Reply:
    """Makes the next version of a lake: read, plan aside, seal, write if nobody else has written.

    `plan` is called again on the newer lake when somebody has; None means that there is nothing to change.
    Raises VersionMismatch, KeyReused, LakeBusy when others go on and on, and whatever `plan` does.
    """
    by = Authorship(principal.identity, clock.rfc3339(clock.now()), principal.is_admin)
    for attempt in range(ATTEMPTS):
        lake, answered = await _look(catalogue, principal, terms)
        if answered is not None:
            return answered
        if terms.versions is not None and lake.version not in terms.versions:
            raise VersionMismatch(lake.version)
        revision = await plan(lake, by)
        if revision is None:
            return tell(Written(version=lake.version, document=lake.document))
        written = Written(
            version=lake.version if terms.validate_only else lake.version + 1,
            document=revision.document,
            warnings=revision.warnings,
            changes=revision.changes,
            is_kept=not terms.validate_only,
        )
        reply = tell(written)
        if terms.validate_only:
            return reply
        if await _write(catalogue, principal, written, revision, reason, terms.retry, reply):
            tenant_id = principal.tenant_id
            key = f"{tenant_id}:{written.version}"
            await catalogue.doorbell.ring("lake.apply", key=key, tenant_id=tenant_id)
            return reply
        await asyncio.sleep(random.uniform(0, 0.01) * (attempt + 1))  # noqa: S311
    raise LakeBusy


async def _look(catalogue: Catalogue, principal: Principal, terms: Terms) -> tuple[StoredLake, Reply | None]:
    """The lake, then the answer that the same request may have had: in this order, so that whoever sees
    a twin's change also sees its answer."""
    tenant_id, retry = principal.tenant_id, terms.retry
    async with catalogue.database.tenant(tenant_id) as connection:
        lake = await lakes.read_lake(connection, tenant_id)
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
        if revision.dropped:
            await lake_secrets.drop_secrets(connection, tenant_id, revision.dropped)
        if retry is not None:
            kept = KeptAnswer(
                request_hash=retry.request_hash, status=reply.status, headers=reply.headers, body=reply.body
            )
            await lake_answers.keep_answer(connection, tenant_id, author, retry.key, kept)
    return True


def etag_of(version: int) -> str:
    return f'"v{version}"'
