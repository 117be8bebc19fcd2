"""`/v1/context-lake/datasets`: the datasets of a lake."""

from typing import Annotated, Any, Literal

from litestar import Request, Response, Router, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import UNSET, Struct, UnsetType, structs

from weir.context_lake import datasets, names
from weir.context_lake.changing import Catalogue, FoundColumn, Reply, Terms, Written, read_lake
from weir.context_lake.connectors.imported import import_in
from weir.context_lake.document import Dataset, WantedDataset
from weir.context_lake.notifications import telling
from weir.context_lake.notifications.telling import NotificationsInfo, ToldQueue
from weir.context_lake.paging import page_of
from weir.context_lake.permissions import visible_part
from weir.context_lake.probing import Prober
from weir.context_lake.routes.guards import requires_json
from weir.context_lake.routes.terms import (
    PROBING_TERMS,
    TERMS,
    Cursor,
    Limit,
    faults_in_body_order,
    reply_of,
    sent,
    shown,
)
from weir.context_lake.status import StatusDesk, read_status
from weir.context_lake.tables.lake_notifications import Notification
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.errors import FieldError

READ, WRITE = [requires_scope("lake:read")], [requires_scope("lake:write")]
WRITE_JSON = [*WRITE, requires_json]
PATH = "/v1/context-lake/datasets"
FIELDS = {field.encode_name for field in structs.fields(WantedDataset)}


class ShownDataset(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"from_": "from"}):
    """A dataset; its credentials are references to secrets that nobody can read."""

    from_: str
    name: str
    connectorId: str
    notifications: bool
    notificationsInfo: NotificationsInfo | None = None
    """The queue of a dataset that has notifications, and what has arrived through it."""
    params: dict[str, str]
    description: str | None = None
    visibility: str
    metadata: dict[str, Any] | None = None
    columns: list[dict[str, Any]] | None = None
    acceleration: dict[str, Any] | None = None
    time_column: str | None = None
    time_format: str | None = None
    ready_state: str | None = None
    origin: Literal["org", "agent"]
    """Whose it is: the tenant's own, or what was uploaded to work with."""
    createdAt: str
    updatedAt: str
    createdBy: str
    status: dict[str, Any] | None = None
    """Its entry of `GET /status`, where that was asked for."""


class DatasetWritten(Struct, frozen=True, kw_only=True):
    """`notifications` when the dataset has them: the queue to which its bucket is to send. `columns` are those
    that `probe=true` has found at the source."""

    ok: bool
    dataset: ShownDataset
    version: int
    warnings: list[FieldError]
    notifications: ToldQueue | UnsetType = UNSET
    columns: list[FoundColumn] | UnsetType = UNSET


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
    status_desk: NamedDependency[StatusDesk],
    limit: Limit = None,
    cursor: Cursor = None,
    include: Annotated[
        Literal["status"] | None, QueryParameter(description="`status`: what the lake says of each")
    ] = None,
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
    told = {} if include is None else (await read_status(status_desk, principal))["datasets"]
    known = await _notifications(catalogue, principal, page)
    body = DatasetList(
        datasets=[
            shown_dataset(item, known.get(names.key_of(item.name)), told.get(item.name)) for item in page
        ],
        nextCursor=following,
    )
    return shown(body, lake.version)


@post("/", guards=WRITE_JSON)
async def add_dataset(
    request: Request[Any, Any, Any],
    data: JSONBody[WantedDataset],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    probing_terms: NamedDependency[Terms],
    prober: NamedDependency[Prober],
) -> Response[DatasetWritten]:
    """Adds a dataset; a running lake has it with the next query."""

    def tell(written: Written) -> Reply:
        dataset = datasets.one_dataset(written.document, principal, str(data.name))
        return _told(dataset, written, status=201, location=f"{PATH}/{dataset.name}")

    async with faults_in_body_order(request, FIELDS):
        return sent(await datasets.add_dataset(catalogue, principal, data, probing_terms, tell, prober))


@get("/{name:str}", guards=READ)
async def show_dataset(
    name: FromPath[str], principal: NamedDependency[Principal], catalogue: NamedDependency[Catalogue]
) -> Response[ShownDataset]:
    dataset, version = await datasets.find_dataset(catalogue, principal, name)
    known = await _notifications(catalogue, principal, [dataset])
    return shown(shown_dataset(dataset, known.get(names.key_of(dataset.name))), version)


@put("/{name:str}", guards=WRITE_JSON)
async def replace_dataset(
    request: Request[Any, Any, Any],
    name: FromPath[str],
    data: JSONBody[WantedDataset],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    probing_terms: NamedDependency[Terms],
    prober: NamedDependency[Prober],
) -> Response[DatasetWritten]:
    """Replaces a dataset whole; what is not sent has its default again."""

    def tell(written: Written) -> Reply:
        dataset = written.document.find_dataset(name)
        assert dataset is not None, "it has just been replaced"
        return _told(dataset, written)

    async with faults_in_body_order(request, FIELDS):
        return sent(
            await datasets.replace_dataset(catalogue, principal, name, data, probing_terms, tell, prober)
        )


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
    queue = written.queues.get(names.key_of(dataset.name))
    body = DatasetWritten(
        ok=True,
        dataset=shown_dataset(dataset),
        version=written.version,
        warnings=written.warnings,
        notifications=telling.told(queue) if queue else UNSET,
        columns=UNSET if written.columns is None else written.columns,
    )
    return reply_of(body, written, **more)


async def _notifications(
    catalogue: Catalogue, principal: Principal, shown: list[Dataset]
) -> dict[str, Notification]:
    if not any(dataset.notifications for dataset in shown):
        return {}
    return await datasets.read_notifications(catalogue, principal)


def shown_dataset(
    dataset: Dataset, known: Notification | None = None, status: dict[str, Any] | None = None
) -> ShownDataset:
    return ShownDataset(
        from_=dataset.from_,
        name=dataset.name,
        connectorId=dataset.source.connector,
        notifications=dataset.notifications,
        notificationsInfo=telling.info_of(known) if known and dataset.notifications else None,
        params=dataset.params,
        description=dataset.description,
        visibility=dataset.visibility,
        metadata=dataset.metadata or None,
        columns=[column.shown() for column in dataset.columns] or None,
        acceleration=None if dataset.acceleration is None else dataset.acceleration.shown(),
        time_column=dataset.time_column,
        time_format=dataset.time_format,
        ready_state=dataset.ready_state,
        origin="agent" if import_in(dataset.from_) else "org",
        createdAt=dataset.created_at,
        updatedAt=dataset.updated_at,
        createdBy=dataset.created_by,
        status=status,
    )


routes = Router(
    PATH,
    route_handlers=[list_datasets, add_dataset, show_dataset, replace_dataset, remove_dataset],
    dependencies=TERMS | PROBING_TERMS,
    tags=["context lake"],
)
