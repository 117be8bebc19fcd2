"""`/v1/context-lake/datasets`: the datasets of a lake."""

from typing import Annotated, Any

from litestar import Response, Router, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Struct

from weir.context_lake import datasets
from weir.context_lake.changing import Catalogue, Reply, Terms, Written, read_lake
from weir.context_lake.document import Dataset, WantedDataset
from weir.context_lake.paging import page_of
from weir.context_lake.permissions import visible_part
from weir.context_lake.routes.guards import requires_json
from weir.context_lake.routes.terms import TERMS, Cursor, Limit, reply_of, sent, shown
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.errors import FieldError

READ, WRITE = [requires_scope("lake:read")], [requires_scope("lake:write")]
WRITE_JSON = [*WRITE, requires_json]
PATH = "/v1/context-lake/datasets"


class ShownDataset(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"from_": "from"}):
    """A dataset; its credentials are references to secrets that nobody can read."""

    from_: str
    name: str
    connectorId: str
    notifications: bool
    params: dict[str, str]
    description: str | None = None
    visibility: str
    createdAt: str
    updatedAt: str
    createdBy: str


class DatasetWritten(Struct, frozen=True, kw_only=True):
    ok: bool = True
    dataset: ShownDataset
    version: int
    warnings: list[FieldError]


class RemovedViews(Struct, frozen=True):
    views: list[str]


class DatasetRemoved(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`removed` when the views that read the dataset went with it."""

    ok: bool
    version: int
    removed: RemovedViews | None = None


class DatasetList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    datasets: list[ShownDataset]
    nextCursor: str | None = None


@get("/", guards=READ)
async def list_datasets(
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    limit: Limit = None,
    cursor: Cursor = None,
    connector: Annotated[str | None, QueryParameter(description="Only those of this connector")] = None,
) -> Response[DatasetList]:
    """Every dataset that the caller sees, by name. Works while the runtime sleeps."""
    lake = await read_lake(catalogue, principal)
    found = [
        dataset
        for dataset in visible_part(lake.document, principal).datasets
        if connector is None or dataset.source.connector == connector
    ]
    page, following = page_of(found, limit, cursor)
    body = DatasetList(datasets=[_shown(dataset) for dataset in page], nextCursor=following)
    return shown(body, lake.version)


@post("/", guards=WRITE_JSON)
async def add_dataset(
    data: JSONBody[WantedDataset],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    terms: NamedDependency[Terms],
) -> Response[DatasetWritten]:
    """Adds a dataset; a running lake has it with the next query."""

    def tell(written: Written) -> Reply:
        dataset = datasets.one_dataset(written.document, principal, str(data.name))
        return _told(dataset, written, status=201, location=f"{PATH}/{dataset.name}")

    return sent(await datasets.add_dataset(catalogue, principal, data, terms, tell))


@get("/{name:str}", guards=READ)
async def show_dataset(
    name: FromPath[str], principal: NamedDependency[Principal], catalogue: NamedDependency[Catalogue]
) -> Response[ShownDataset]:
    dataset, version = await datasets.find_dataset(catalogue, principal, name)
    return shown(_shown(dataset), version)


@put("/{name:str}", guards=WRITE_JSON)
async def replace_dataset(
    name: FromPath[str],
    data: JSONBody[WantedDataset],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    terms: NamedDependency[Terms],
) -> Response[DatasetWritten]:
    """Replaces a dataset whole; what is not sent has its default again."""

    def tell(written: Written) -> Reply:
        dataset = written.document.find_dataset(name)
        assert dataset is not None, "it has just been replaced"
        return _told(dataset, written)

    return sent(await datasets.replace_dataset(catalogue, principal, name, data, terms, tell))


@delete("/{name:str}", guards=WRITE, status_code=200)
async def remove_dataset(
    name: FromPath[str],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    terms: NamedDependency[Terms],
    cascade: FromQuery[bool] = False,
) -> Response[DatasetRemoved]:
    """Removes a dataset and its secrets; with `cascade` also the views that read it."""

    def tell(written: Written) -> Reply:
        views = written.changes.views.removed
        removed = RemovedViews(views) if views else None
        return reply_of(DatasetRemoved(ok=True, version=written.version, removed=removed), written)

    return sent(
        await datasets.remove_dataset(catalogue, principal, name, cascade=cascade, terms=terms, tell=tell)
    )


def _told(dataset: Dataset, written: Written, **more: Any) -> Reply:
    body = DatasetWritten(dataset=_shown(dataset), version=written.version, warnings=written.warnings)
    return reply_of(body, written, **more)


def _shown(dataset: Dataset) -> ShownDataset:
    return ShownDataset(
        from_=dataset.from_,
        name=dataset.name,
        connectorId=dataset.source.connector,
        notifications=dataset.notifications,
        params=dataset.params,
        description=dataset.description,
        visibility=dataset.visibility,
        createdAt=dataset.created_at,
        updatedAt=dataset.updated_at,
        createdBy=dataset.created_by,
    )


routes = Router(
    PATH,
    route_handlers=[list_datasets, add_dataset, show_dataset, replace_dataset, remove_dataset],
    dependencies=TERMS,
    tags=["context lake"],
)
