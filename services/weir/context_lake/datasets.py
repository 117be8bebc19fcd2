"""Adding, replacing, removing and showing the datasets of a lake."""

import asyncio
import random
from collections.abc import Callable

from msgspec import Struct

from weir.context_lake import secrets
from weir.context_lake.config import Edit
from weir.context_lake.connectors.declared import Place
from weir.context_lake.document import Authorship, Dataset, Document, Revision, WantedDataset
from weir.context_lake.surroundings import Surroundings
from weir.context_lake.tables import lake_secrets, lakes
from weir.context_lake.tables.lakes import StoredLake
from weir_shared import clock
from weir_shared.auth.principal import Principal
from weir_shared.db.pool import Database
from weir_shared.errors import Conflict, FieldError, NotFound
from weir_shared.queue.doorbell import Doorbell
from weir_shared.sealing import Vault

# How often a change is made again on what another one has just written.
ATTEMPTS = 40


class DatasetNotFound(NotFound):
    code = "dataset_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no dataset '{name}'")


class NameTaken(Conflict):
    code = "name_conflict"

    def __init__(self, name: str) -> None:
        super().__init__(f"The name '{name}' is in use")


class LakeBusy(Conflict):
    code = "version_conflict"

    def __init__(self) -> None:
        super().__init__("The lake is being changed by others; try again", headers={"Retry-After": "1"})


class Catalogue(Struct, frozen=True):
    """What a change of a lake needs."""

    database: Database
    vault: Vault
    doorbell: Doorbell
    surroundings: Surroundings


class Written(Struct, frozen=True):
    """The outcome of a change: the lake's new version, and what deserves a word."""

    version: int
    document: Document
    warnings: list[FieldError]


async def add_dataset(
    catalogue: Catalogue, principal: Principal, wanted: WantedDataset
) -> tuple[Dataset, Written]:
    """Raises ValidationFailed, NameTaken."""

    def add(lake: StoredLake) -> Edit:
        if isinstance(wanted.name, str) and wanted.name and lake.document.find_dataset(wanted.name):
            raise NameTaken(wanted.name)
        edit = Edit(lake.document)
        edit.add_dataset(wanted, Place())
        return edit

    written = await revise(catalogue, principal, add, reason="dataset added")
    return _one(written.document, str(wanted.name)), written


async def replace_dataset(
    catalogue: Catalogue, principal: Principal, name: str, wanted: WantedDataset
) -> tuple[Dataset, Written]:
    """Raises ValidationFailed, DatasetNotFound."""

    def replace(lake: StoredLake) -> Edit:
        _one(lake.document, name)
        edit = Edit(lake.document)
        edit.replace_dataset(name, wanted, Place())
        return edit

    written = await revise(catalogue, principal, replace, reason="dataset replaced")
    return _one(written.document, name), written


async def remove_dataset(catalogue: Catalogue, principal: Principal, name: str) -> Written:
    """Raises DatasetNotFound."""

    def remove(lake: StoredLake) -> Edit:
        _one(lake.document, name)
        edit = Edit(lake.document)
        edit.remove_dataset(name, Place())
        return edit

    return await revise(catalogue, principal, remove, reason="dataset removed")


async def read_lake(catalogue: Catalogue, principal: Principal) -> StoredLake:
    async with catalogue.database.tenant(principal.tenant_id) as connection:
        return await lakes.read_lake(connection, principal.tenant_id)


async def find_dataset(catalogue: Catalogue, principal: Principal, name: str) -> Dataset:
    """Raises DatasetNotFound."""
    return _one((await read_lake(catalogue, principal)).document, name)


async def revise(
    catalogue: Catalogue, principal: Principal, edit: Callable[[StoredLake], Edit], *, reason: str
) -> Written:
    """Makes the next version of a lake: read, edit and check aside, seal, write if nobody else has written.

    `edit` is called again on the newer lake when somebody has. Raises LakeBusy when that goes on and on.
    """
    for attempt in range(ATTEMPTS):
        lake = await read_lake(catalogue, principal)
        by = Authorship(principal.identity, clock.rfc3339(clock.now()))
        revision = edit(lake).finish(catalogue.surroundings, by)
        if await _write(catalogue, principal, lake.version, revision, reason):
            written = Written(lake.version + 1, revision.document, revision.warnings)
            await _ring(catalogue, principal.tenant_id, written.version)
            return written
        await asyncio.sleep(random.uniform(0, 0.01) * (attempt + 1))  # noqa: S311
    raise LakeBusy


async def _write(
    catalogue: Catalogue, principal: Principal, version: int, revision: Revision, reason: str
) -> bool:
    tenant_id = principal.tenant_id
    # Sealed before the transaction: the first seal of a tenant makes its data key in one of its own.
    sealed = await secrets.seal_all(catalogue.vault, tenant_id, revision.literals)
    async with catalogue.database.tenant(tenant_id) as connection:
        if not await lakes.advance(connection, tenant_id, version):
            return False
        await lakes.append_config(
            connection,
            tenant_id,
            version + 1,
            revision.document,
            author=principal.identity,
            reason=reason,
        )
        await lake_secrets.keep_secrets(connection, tenant_id, sealed)
        await lake_secrets.drop_secrets(connection, tenant_id, revision.dropped)
    return True


async def _ring(catalogue: Catalogue, tenant_id: str, version: int) -> None:
    await catalogue.doorbell.ring("lake.apply", key=f"{tenant_id}:{version}", tenant_id=tenant_id)


def _one(document: Document, name: str) -> Dataset:
    dataset = document.find_dataset(name)
    if dataset is None:
        raise DatasetNotFound(name)
    return dataset
