"""`/v1/context-lake/views`: the views of a lake."""

from typing import Any

from litestar import Request, Response, Router, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Struct, structs

from weir.context_lake import names, views
from weir.context_lake.changing import Catalogue, Reply, Terms, Written, read_lake
from weir.context_lake.document import Validation, View, WantedView
from weir.context_lake.paging import page_of
from weir.context_lake.permissions import visible_part
from weir.context_lake.routes.guards import requires_json
from weir.context_lake.routes.terms import TERMS, Cursor, Limit, faults_in_body_order, reply_of, sent, shown
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.errors import FieldError

READ, WRITE = [requires_scope("lake:read")], [requires_scope("lake:write")]
WRITE_JSON = [*WRITE, requires_json]
PATH = "/v1/context-lake/views"
FIELDS = {field.encode_name for field in structs.fields(WantedView)}


class ShownView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    sql: str
    description: str | None = None
    visibility: str
    metadata: dict[str, Any] | None = None
    refresh: str | None = None
    acceleration: dict[str, Any] | None = None
    time_column: str | None = None
    time_format: str | None = None
    ready_state: str | None = None
    validation: Validation
    """`deferred`: whether its columns exist is found out when the runtime has read what it reads."""
    createdAt: str
    updatedAt: str
    createdBy: str


class ViewWritten(Struct, frozen=True, kw_only=True):
    ok: bool = True
    view: ShownView
    version: int
    warnings: list[FieldError]


class OtherViews(Struct, frozen=True):
    views: list[str]


class ViewRemoved(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`removed` when other views, which read this one, went with it."""

    ok: bool
    version: int
    removed: OtherViews | None = None


class ViewList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    views: list[ShownView]
    nextCursor: str | None = None


@get("/", guards=READ)
async def list_views(
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    limit: Limit = None,
    cursor: Cursor = None,
) -> Response[ViewList]:
    """Every view that the caller sees, by name."""
    lake = await read_lake(catalogue, principal)
    page, following = page_of(visible_part(lake.document, principal).views, limit, cursor)
    return shown(ViewList(views=[_shown(view) for view in page], nextCursor=following), lake.version)


@post("/", guards=WRITE_JSON)
async def add_view(
    request: Request[Any, Any, Any],
    data: JSONBody[WantedView],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    terms: NamedDependency[Terms],
) -> Response[ViewWritten]:
    """Adds a view: one query over datasets and other views."""

    def tell(written: Written) -> Reply:
        view = views.one_view(written.document, principal, str(data.name))
        return _told(view, written, status=201, location=f"{PATH}/{view.name}")

    async with faults_in_body_order(request, FIELDS):
        return sent(await views.add_view(catalogue, principal, data, terms, tell))


@get("/{name:str}", guards=READ)
async def show_view(
    name: FromPath[str], principal: NamedDependency[Principal], catalogue: NamedDependency[Catalogue]
) -> Response[ShownView]:
    view, version = await views.find_view(catalogue, principal, name)
    return shown(_shown(view), version)


@put("/{name:str}", guards=WRITE_JSON)
async def replace_view(
    request: Request[Any, Any, Any],
    name: FromPath[str],
    data: JSONBody[WantedView],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    terms: NamedDependency[Terms],
) -> Response[ViewWritten]:
    """Replaces a view whole; what is not sent has its default again."""

    def tell(written: Written) -> Reply:
        view = written.document.find_view(name)
        assert view is not None, "it has just been replaced"
        return _told(view, written)

    async with faults_in_body_order(request, FIELDS):
        return sent(await views.replace_view(catalogue, principal, name, data, terms, tell))


@delete("/{name:str}", guards=WRITE, status_code=200)
async def remove_view(
    name: FromPath[str],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    terms: NamedDependency[Terms],
    cascade: FromQuery[bool] = False,
) -> Response[ViewRemoved]:
    """Removes a view; with `cascade` also the views that read it."""

    def tell(written: Written) -> Reply:
        gone = written.changes.views.removed
        others = [other for other in gone if names.key_of(other) != names.key_of(name)]
        removed = OtherViews(others) if others else None
        return reply_of(ViewRemoved(ok=True, version=written.version, removed=removed), written)

    return sent(await views.remove_view(catalogue, principal, name, cascade=cascade, terms=terms, tell=tell))


def _told(view: View, written: Written, **more: Any) -> Reply:
    body = ViewWritten(view=_shown(view), version=written.version, warnings=written.warnings)
    return reply_of(body, written, **more)


def _shown(view: View) -> ShownView:
    return ShownView(
        name=view.name,
        sql=view.sql,
        description=view.description,
        visibility=view.visibility,
        metadata=view.metadata or None,
        refresh=view.refresh,
        acceleration=None if view.acceleration is None else view.acceleration.shown(),
        time_column=view.time_column,
        time_format=view.time_format,
        ready_state=view.ready_state,
        validation=view.validation,
        createdAt=view.created_at,
        updatedAt=view.updated_at,
        createdBy=view.created_by,
    )


routes = Router(
    PATH,
    route_handlers=[list_views, add_view, show_view, replace_view, remove_view],
    dependencies=TERMS,
    tags=["context lake"],
)
