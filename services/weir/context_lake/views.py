"""Adding, replacing, removing and showing the views of a lake."""

from weir.context_lake import permissions
from weir.context_lake.changing import Catalogue, NameTaken, Reply, Tell, Terms, edit_lake, read_lake
from weir.context_lake.config import Edit
from weir.context_lake.connectors.declared import Place
from weir.context_lake.document import Document, View, WantedView
from weir.context_lake.removing import require_free
from weir.context_lake.tables.lakes import StoredLake
from weir_shared.auth.principal import Principal
from weir_shared.errors import Conflict, NotFound


class ViewNotFound(NotFound):
    code = "view_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no view '{name}'")


class ViewInUse(Conflict):
    code = "view_in_use"


async def add_view(
    catalogue: Catalogue, principal: Principal, wanted: WantedView, terms: Terms, tell: Tell
) -> Reply:
    """Raises ValidationFailed, NameTaken, and as `revise`."""

    def add(lake: StoredLake, edit: Edit) -> None:
        if isinstance(wanted.name, str) and lake.document.holds(wanted.name):
            raise NameTaken(wanted.name)
        edit.add_view(wanted, Place())

    return await edit_lake(catalogue, principal, add, reason="view added", terms=terms, tell=tell)


async def replace_view(
    catalogue: Catalogue, principal: Principal, name: str, wanted: WantedView, terms: Terms, tell: Tell
) -> Reply:
    """Raises ValidationFailed, ViewNotFound, and as `revise`."""

    def replace(lake: StoredLake, edit: Edit) -> None:
        one_view(lake.document, principal, name)
        edit.replace_view(name, wanted, Place())

    return await edit_lake(catalogue, principal, replace, reason="view replaced", terms=terms, tell=tell)


async def remove_view(
    catalogue: Catalogue, principal: Principal, name: str, *, cascade: bool, terms: Terms, tell: Tell
) -> Reply:
    """With `cascade` the views that read it go too. Raises ViewNotFound, ViewInUse, and as `revise`."""

    def remove(lake: StoredLake, edit: Edit) -> None:
        view = one_view(lake.document, principal, name)
        for other in require_free(lake.document, principal, view, cascade=cascade, refusal=ViewInUse):
            edit.remove_view(other, Place())
        edit.remove_view(name, Place())

    return await edit_lake(catalogue, principal, remove, reason="view removed", terms=terms, tell=tell)


async def list_views(catalogue: Catalogue, principal: Principal) -> list[View]:
    lake = await read_lake(catalogue, principal)
    return permissions.visible_part(lake.document, principal).views


async def find_view(catalogue: Catalogue, principal: Principal, name: str) -> tuple[View, int]:
    """The view and the lake's version. Raises ViewNotFound."""
    lake = await read_lake(catalogue, principal)
    return one_view(lake.document, principal, name), lake.version


def one_view(document: Document, principal: Principal, name: str) -> View:
    """Raises ViewNotFound, also when the caller must not see it."""
    view = document.find_view(name)
    if view is None or not permissions.viewer_of(principal).sees(view):
        raise ViewNotFound(name)
    return view
