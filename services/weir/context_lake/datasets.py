"""Adding, replacing, removing and showing the datasets of a lake."""

from weir.context_lake import permissions
from weir.context_lake.changing import Catalogue, NameTaken, Reply, Tell, Terms, edit_lake, read_lake
from weir.context_lake.config import Edit
from weir.context_lake.connectors.declared import Place
from weir.context_lake.document import Dataset, Document, WantedDataset
from weir.context_lake.probing import Prober
from weir.context_lake.removing import require_free
from weir.context_lake.tables import lake_notifications
from weir.context_lake.tables.lake_notifications import Notification
from weir.context_lake.tables.lakes import StoredLake
from weir_shared.auth.principal import Principal
from weir_shared.errors import Conflict, NotFound


class DatasetNotFound(NotFound):
    code = "dataset_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no dataset '{name}'")


class DatasetInUse(Conflict):
    code = "dataset_in_use"


async def add_dataset(
    catalogue: Catalogue,
    principal: Principal,
    wanted: WantedDataset,
    terms: Terms,
    tell: Tell,
    prober: Prober,
) -> Reply:
    """Raises ValidationFailed, NameTaken, SourceUnreachable, and as `revise`."""

    def add(lake: StoredLake, edit: Edit) -> None:
        if isinstance(wanted.name, str) and lake.document.holds(wanted.name):
            raise NameTaken(wanted.name)
        edit.add_dataset(wanted, Place())

    probe = prober.of(principal.tenant_id, str(wanted.name), terms)
    return await edit_lake(
        catalogue, principal, add, reason="dataset added", terms=terms, tell=tell, probe=probe
    )


async def replace_dataset(
    catalogue: Catalogue,
    principal: Principal,
    name: str,
    wanted: WantedDataset,
    terms: Terms,
    tell: Tell,
    prober: Prober,
) -> Reply:
    """Raises ValidationFailed, DatasetNotFound, SourceUnreachable, and as `revise`."""

    def replace(lake: StoredLake, edit: Edit) -> None:
        one_dataset(lake.document, principal, name)
        edit.replace_dataset(name, wanted, Place())

    probe = prober.of(principal.tenant_id, name, terms)
    return await edit_lake(
        catalogue, principal, replace, reason="dataset replaced", terms=terms, tell=tell, probe=probe
    )


async def remove_dataset(
    catalogue: Catalogue, principal: Principal, name: str, *, cascade: bool, terms: Terms, tell: Tell
) -> Reply:
    """With `cascade` the views that read it go too. Raises DatasetNotFound, DatasetInUse, and as `revise`."""

    def remove(lake: StoredLake, edit: Edit) -> None:
        dataset = one_dataset(lake.document, principal, name)
        for view in require_free(lake.document, principal, dataset, cascade=cascade, refusal=DatasetInUse):
            edit.remove_view(view, Place())
        edit.remove_dataset(name, Place())

    return await edit_lake(catalogue, principal, remove, reason="dataset removed", terms=terms, tell=tell)


async def list_datasets(catalogue: Catalogue, principal: Principal) -> list[Dataset]:
    lake = await read_lake(catalogue, principal)
    return permissions.visible_part(lake.document, principal).datasets


async def find_dataset(catalogue: Catalogue, principal: Principal, name: str) -> tuple[Dataset, int]:
    """The dataset and the lake's version. Raises DatasetNotFound."""
    lake = await read_lake(catalogue, principal)
    return one_dataset(lake.document, principal, name), lake.version


async def read_notifications(catalogue: Catalogue, principal: Principal) -> dict[str, Notification]:
    """Of every dataset that has, or had, them; by the keys of the names."""
    async with catalogue.database.tenant(principal.tenant_id) as connection:
        return await lake_notifications.list_notifications(connection, principal.tenant_id)


def one_dataset(document: Document, principal: Principal, name: str) -> Dataset:
    """Raises DatasetNotFound, also when the caller must not see it."""
    dataset = document.find_dataset(name)
    if dataset is None or not permissions.viewer_of(principal).sees(dataset):
        raise DatasetNotFound(name)
    return dataset
