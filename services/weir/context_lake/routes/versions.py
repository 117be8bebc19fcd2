"""`/v1/context-lake/config/versions`, `/rollback`: what a lake was, and going back to it."""

from typing import Any

from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import Struct

from weir.context_lake import page, versions
from weir.context_lake.changing import Catalogue, Reply, Terms, Written
from weir.context_lake.document import Changes
from weir.context_lake.paging import make_cursor, read_cursor
from weir.context_lake.routes.guards import requires_json
from weir.context_lake.routes.terms import TERMS, Cursor, Limit, reply_of, sent, shown
from weir.context_lake.tables.lakes import KEPT_VERSIONS, Version
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.clock import rfc3339
from weir_shared.errors import FieldError, ValidationFailed

READ = [requires_scope("lake:read")]


class ShownVersion(Struct, frozen=True):
    version: int
    author: str
    reason: str
    createdAt: str


class VersionList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    versions: list[ShownVersion]
    nextCursor: str | None = None


class WantedRollback(Struct, frozen=True, forbid_unknown_fields=True):
    version: int


class RolledBack(Struct, frozen=True, kw_only=True):
    ok: bool = True
    version: int
    changes: Changes
    warnings: list[FieldError]


@get("/versions", guards=READ)
async def list_versions(
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    limit: Limit = None,
    cursor: Cursor = None,
) -> VersionList:
    """The versions that are kept, newest first: who made each, when and why."""
    most = limit or KEPT_VERSIONS
    found = await versions.list_versions(catalogue, principal, before=_before(cursor), limit=most)
    following = make_cursor(str(found[most - 1].version)) if len(found) > most else None
    return VersionList(versions=[_shown(version) for version in found[:most]], nextCursor=following)


@get("/versions/{version:int}", guards=READ)
async def show_version(
    version: FromPath[int], principal: NamedDependency[Principal], catalogue: NamedDependency[Catalogue]
) -> Response[dict[str, Any]]:
    """The lake as it was at one version."""
    found = await versions.find_version(catalogue, principal, version)
    spicepod = page.spicepod_of(versions.visible_version(found, principal))
    author = _shown(found)
    body = {
        "version": author.version,
        "author": author.author,
        "reason": author.reason,
        "createdAt": author.createdAt,
        "yaml": page.yaml_of(spicepod),
        "config": spicepod,
    }
    return shown(body, found.version)


@post("/rollback", guards=[requires_scope("lake:write"), requires_json], status_code=200)
async def roll_back(
    data: JSONBody[WantedRollback],
    principal: NamedDependency[Principal],
    catalogue: NamedDependency[Catalogue],
    terms: NamedDependency[Terms],
) -> Response[RolledBack]:
    """Makes a new version that holds what an earlier one held."""

    def tell(written: Written) -> Reply:
        body = RolledBack(version=written.version, changes=written.changes, warnings=written.warnings)
        return reply_of(body, written)

    return sent(await versions.roll_back(catalogue, principal, data.version, terms, tell))


def _before(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    text = read_cursor(cursor)
    if not (text.isascii() and text.isdigit() and int(text[:12]) <= versions.MAX_VERSION):
        raise ValidationFailed([FieldError(path="cursor", message="cursor is not one of ours")])
    return int(text)


def _shown(version: Version) -> ShownVersion:
    return ShownVersion(version.version, version.author, version.reason, rfc3339(version.created_at))


routes = Router(
    "/v1/context-lake/config",
    route_handlers=[list_versions, show_version, roll_back],
    dependencies=TERMS,
    tags=["context lake"],
)
