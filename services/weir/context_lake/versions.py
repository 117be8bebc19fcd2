"""What a lake was at its earlier versions, and going back to one of them."""

from typing import Literal

from msgspec.structs import replace

from weir.context_lake import names, permissions
from weir.context_lake.changing import Catalogue, Reply, Tell, Terms, revise
from weir.context_lake.document import Authorship, Changes, Dataset, Document, Names, Revision, View
from weir.context_lake.tables import lake_imports, lake_secrets, lakes
from weir.context_lake.tables.lakes import KeptVersion, StoredLake, Version
from weir_shared.auth.principal import Principal
from weir_shared.errors import FieldError, Forbidden, NotFound, ValidationFailed

# The column is an integer of 32 bits.
MAX_VERSION = 2**31 - 1


class VersionNotFound(NotFound):
    code = "version_not_found"

    def __init__(self, version: int) -> None:
        super().__init__(f"Version {version} is not kept")


async def list_versions(
    catalogue: Catalogue, principal: Principal, *, before: int | None, limit: int
) -> list[Version]:
    """Newest first; one more than `limit` when there are more."""
    async with catalogue.database.tenant(principal.tenant_id) as connection:
        return await lakes.list_versions(connection, principal.tenant_id, before=before, limit=limit + 1)


async def find_version(catalogue: Catalogue, principal: Principal, version: int) -> KeptVersion:
    """Raises VersionNotFound."""
    if not 0 < version <= MAX_VERSION:
        raise VersionNotFound(version)
    async with catalogue.database.tenant(principal.tenant_id) as connection:
        found = await lakes.read_version(connection, principal.tenant_id, version)
    if found is None:
        raise VersionNotFound(version)
    return found


async def roll_back(
    catalogue: Catalogue, principal: Principal, version: int, terms: Terms, tell: Tell
) -> Reply:
    """Makes a new version that holds what `version` held.

    Raises VersionNotFound, ValidationFailed when secrets or imports are gone, Forbidden when it would touch what the
    caller does not see, and as `revise`.
    """

    async def plan(lake: StoredLake, _: Authorship) -> Revision:
        target = (await find_version(catalogue, principal, version)).document
        for document in (lake.document, target):
            if permissions.visible_tables(document, principal) is not None:
                raise Forbidden("This would change what is private to others; an admin may do it")
        async with catalogue.database.tenant(principal.tenant_id) as connection:
            there = await lake_secrets.list_references(connection, principal.tenant_id)
            kept = await lake_imports.living_imports(connection, principal.tenant_id, target.imports())
        gone = [_gone(version, "secret", name) for name in sorted(target.references() - there)]
        gone += [_gone(version, "import", name) for name in sorted(target.imports() - kept)]
        if gone:
            raise ValidationFailed(gone)
        return Revision(
            document=target,
            literals={},
            dropped=lake.document.references() - target.references(),
            dropped_imports=lake.document.imports() - target.imports(),
            warnings=[],
            changes=Changes(
                _changes(lake.document.datasets, target.datasets), _changes(lake.document.views, target.views)
            ),
        )

    reason = f"rolled back to version {version}"
    return await revise(catalogue, principal, plan, reason=reason, terms=terms, tell=tell)


def visible_version(version: KeptVersion, principal: Principal) -> Document:
    return permissions.visible_part(version.document, principal)


def _gone(version: int, kind: Literal["secret", "import"], name: str) -> FieldError:
    message = f"version {version} needs the {kind} {name}, which is gone"
    return FieldError(path="version", message=message, code=f"{kind}_missing")


def _changes(before: list[Dataset] | list[View], after: list[Dataset] | list[View]) -> Names:
    old = {names.key_of(item.name): item for item in before}
    new = {names.key_of(item.name): item for item in after}
    return Names(
        added=[item.name for key, item in new.items() if key not in old],
        removed=[item.name for key, item in old.items() if key not in new],
        updated=[item.name for key, item in new.items() if key in old and _is_other(old[key], item)],
    )


def _is_other(before: Dataset | View, after: Dataset | View) -> bool:
    """Whether more than the platform's own mark differs."""
    if isinstance(before, View) and isinstance(after, View):
        before = replace(before, validation=after.validation)
    return before != after
