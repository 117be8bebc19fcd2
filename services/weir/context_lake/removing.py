"""What stands in the way of a removal: the views that read what is to go."""

from weir.context_lake import lineage, names
from weir.context_lake.document import Dataset, Document, View
from weir.context_lake.permissions import viewer_of
from weir_shared.auth.principal import Principal
from weir_shared.errors import Conflict


def require_free(
    document: Document, principal: Principal, item: Dataset | View, *, cascade: bool, refusal: type[Conflict]
) -> list[str]:
    """The names of the views that read it, through others too, when they may go with it.

    Raises the refusal when there are any and they may not: nobody removes a view that he does not see.
    """
    found = lineage.dependents_of(names.key_of(item.name), lineage.lineage_of(document.views))
    views = [view for view in document.views if names.key_of(view.name) in found]
    seen = [view.name for view in views if viewer_of(principal).sees(view)]
    if not views or (cascade and len(seen) == len(views)):
        return seen
    kind = "Dataset" if isinstance(item, Dataset) else "View"
    count = f"{len(views)} view{'s' if len(views) > 1 else ''}"
    raise refusal(f"{kind} '{item.name}' is used by {count}", details={"dependents": seen})
