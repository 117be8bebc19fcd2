"""`…/{name}/refresh` and `…/{name}/refreshes` of datasets and views: reading again, and what came of it."""

from typing import Annotated, Literal

import msgspec
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from weir.context_lake.changing import Catalogue
from weir.context_lake.datasets import find_dataset
from weir.context_lake.document import Dataset, View
from weir.context_lake.paging import make_cursor, read_cursor
from weir.context_lake.refreshes import asking
from weir.context_lake.refreshes.asking import Asked, RefreshDesk
from weir.context_lake.routes.terms import Cursor
from weir.context_lake.tables.lake_refreshes import Run
from weir.context_lake.views import find_view
from weir_shared import clock
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.errors import FieldError, ValidationFailed

READ, WRITE = [requires_scope("lake:read")], [requires_scope("lake:write")]
MOST_WAIT_SECONDS = 180

Wait = Annotated[
    int, QueryParameter(ge=0, le=MOST_WAIT_SECONDS, description="Seconds to wait for the outcome")
]
RunLimit = Annotated[int, QueryParameter(ge=1, le=100, description="How many at most")]


class RefreshError(Struct, frozen=True):
    message: str
    at: str | None


class ShownRefresh(Struct, frozen=True, kw_only=True):
    """A wish for a refresh, and the refreshes of its dataset or view."""

    name: str
    trigger: str
    state: Literal["queued", "running", "succeeded", "failed"]
    requestedAt: str
    nextAt: str | None
    lastSuccessAt: str | None
    lastError: RefreshError | None


class RefreshAsked(Struct, frozen=True):
    """`ok` is false when it was waited for and has failed; what was loaded before stays."""

    ok: bool
    refresh: ShownRefresh


class ShownRun(Struct, frozen=True, kw_only=True):
    id: str
    trigger: str
    outcome: Literal["succeeded", "failed", "lost"]
    """`lost`: the worker that was at it went away; it was taken up again."""
    rowCount: int | None
    byteCount: int | None
    error: str | None
    startedAt: str
    endedAt: str
    seconds: float


class RunList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    refreshes: list[ShownRun]
    nextCursor: str | None = None


@post("/datasets/{name:str}/refresh", guards=WRITE, status_code=202)
async def refresh_dataset(
    name: FromPath[str],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    refresh_desk: NamedDependency[RefreshDesk],
    wait: Wait = 0,
) -> Response[RefreshAsked]:
    """Reads a dataset again, and the materialised views over it after that; 200 when it was waited for."""
    dataset, _ = await find_dataset(catalogue, principal, name)
    return _told(await asking.ask_refresh(refresh_desk, principal, dataset, wait_seconds=wait))


@post("/views/{name:str}/refresh", guards=WRITE, status_code=202)
async def refresh_view(
    name: FromPath[str],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    refresh_desk: NamedDependency[RefreshDesk],
    wait: Wait = 0,
) -> Response[RefreshAsked]:
    """Makes a materialised view again, and those over it after that; 200 when it was waited for."""
    view, _ = await find_view(catalogue, principal, name)
    return _told(await asking.ask_refresh(refresh_desk, principal, view, wait_seconds=wait))


@get("/datasets/{name:str}/refreshes", guards=READ)
async def list_dataset_refreshes(
    name: FromPath[str],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    refresh_desk: NamedDependency[RefreshDesk],
    limit: RunLimit = 20,
    cursor: Cursor = None,
) -> RunList:
    """The refreshes of a dataset that have ended, the newest first."""
    dataset, _ = await find_dataset(catalogue, principal, name)
    return await _list(refresh_desk, principal, dataset, limit, cursor)


@get("/views/{name:str}/refreshes", guards=READ)
async def list_view_refreshes(
    name: FromPath[str],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    refresh_desk: NamedDependency[RefreshDesk],
    limit: RunLimit = 20,
    cursor: Cursor = None,
) -> RunList:
    """The refreshes of a view that have ended, the newest first."""
    view, _ = await find_view(catalogue, principal, name)
    return await _list(refresh_desk, principal, view, limit, cursor)


def _told(asked: Asked) -> Response[RefreshAsked]:
    refresh = msgspec.convert(asked.told, ShownRefresh)
    return Response(RefreshAsked(asked.is_ok, refresh), status_code=200 if asked.is_done else 202)


async def _list(
    desk: RefreshDesk, principal: Principal, item: Dataset | View, limit: int, cursor: str | None
) -> RunList:
    runs = await asking.list_runs(desk, principal, item, before=_before(cursor), limit=limit + 1)
    page = runs[:limit]
    return RunList(
        refreshes=[_shown(run) for run in page],
        nextCursor=make_cursor(str(page[-1].id)) if len(runs) > limit else None,
    )


def _shown(run: Run) -> ShownRun:
    return ShownRun(
        id=str(run.id),
        trigger=run.trigger,
        outcome=run.outcome,
        rowCount=run.row_count,
        byteCount=run.byte_count,
        error=run.error,
        startedAt=clock.rfc3339(run.started_at),
        endedAt=clock.rfc3339(run.ended_at),
        seconds=round((run.ended_at - run.started_at).total_seconds(), 3),
    )


def _before(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    text = read_cursor(cursor)
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValidationFailed([FieldError(path="cursor", message="cursor is not one of ours")])
    return int(text)


routes = Router(
    "/v1/context-lake",
    route_handlers=[refresh_dataset, refresh_view, list_dataset_refreshes, list_view_refreshes],
    tags=["context lake"],
)
