"""`/v1/context-lake/datasets`: the datasets of a lake."""

from litestar import Response, Router, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import Struct

from weir.context_lake import datasets
from weir.context_lake.datasets import Catalogue
from weir.context_lake.document import Dataset, WantedDataset
from weir.context_lake.routes.guards import requires_json
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
    createdAt: str
    updatedAt: str
    createdBy: str


class DatasetWritten(Struct, frozen=True, kw_only=True):
    ok: bool = True
    dataset: ShownDataset
    version: int
    warnings: list[FieldError]


class DatasetRemoved(Struct, frozen=True, kw_only=True):
    ok: bool = True
    version: int


class DatasetList(Struct, frozen=True):
    datasets: list[ShownDataset]


@get("/", guards=READ)
async def list_datasets(
    principal: NamedDependency[Principal], catalogue: NamedDependency[Catalogue]
) -> DatasetList:
    """Every dataset, by name. Works while the runtime sleeps."""
    lake = await datasets.read_lake(catalogue, principal)
    return DatasetList([_shown(dataset) for dataset in lake.document.datasets])


@post("/", guards=WRITE_JSON)
async def add_dataset(
    data: JSONBody[WantedDataset],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
) -> Response[DatasetWritten]:
    """Adds a dataset; a running lake has it with the next query."""
    dataset, written = await datasets.add_dataset(catalogue, principal, data)
    body = DatasetWritten(dataset=_shown(dataset), version=written.version, warnings=written.warnings)
    return Response(body, headers={"Location": f"{PATH}/{dataset.name}"})


@get("/{name:str}", guards=READ)
async def show_dataset(
    name: FromPath[str], principal: NamedDependency[Principal], catalogue: NamedDependency[Catalogue]
) -> ShownDataset:
    return _shown(await datasets.find_dataset(catalogue, principal, name))


@put("/{name:str}", guards=WRITE_JSON)
async def replace_dataset(
    name: FromPath[str],
    data: JSONBody[WantedDataset],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
) -> DatasetWritten:
    """Replaces a dataset whole; what is not sent has its default again."""
    dataset, written = await datasets.replace_dataset(catalogue, principal, name, data)
    return DatasetWritten(dataset=_shown(dataset), version=written.version, warnings=written.warnings)


@delete("/{name:str}", guards=WRITE, status_code=200)
async def remove_dataset(
    name: FromPath[str], principal: NamedDependency[Principal], catalogue: NamedDependency[Catalogue]
) -> DatasetRemoved:
    """Removes a dataset and its secrets."""
    return DatasetRemoved(version=(await datasets.remove_dataset(catalogue, principal, name)).version)


def _shown(dataset: Dataset) -> ShownDataset:
    return ShownDataset(
        from_=dataset.from_,
        name=dataset.name,
        connectorId=dataset.source.connector,
        notifications=dataset.notifications,
        params=dataset.params,
        description=dataset.description,
        createdAt=dataset.created_at,
        updatedAt=dataset.updated_at,
        createdBy=dataset.created_by,
    )


routes = Router(
    PATH,
    route_handlers=[list_datasets, add_dataset, show_dataset, replace_dataset, remove_dataset],
    tags=["context lake"],
)
