"""Who sees what of a lake: what is private exists for its creator and for admins only."""

from msgspec.structs import replace

from weir.context_lake.document import Authorship, Document
from weir_shared.auth.principal import Principal


def viewer_of(principal: Principal) -> Authorship:
    """The caller as somebody who looks."""
    return Authorship(principal.identity, "", is_admin=principal.is_admin)


def visible_part(document: Document, principal: Principal) -> Document:
    """The document without what the caller does not see."""
    viewer = viewer_of(principal)
    return replace(
        document,
        datasets=[dataset for dataset in document.datasets if viewer.sees(dataset)],
        views=[view for view in document.views if viewer.sees(view)],
    )


def visible_tables(document: Document, principal: Principal) -> frozenset[str] | None:
    """The names that the caller's statements may use; None: all of them.

    It is the statement's own names that count: a view may be queried by everybody who sees the view, also when
    it reads a private dataset. Only who sees that dataset could have written it.
    """
    part = visible_part(document, principal)
    if len(part.datasets) == len(document.datasets) and len(part.views) == len(document.views):
        return None
    return frozenset(item.name for item in (*part.datasets, *part.views))
