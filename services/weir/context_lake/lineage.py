"""Which view reads which relation: their order, who depends on whom, circles and depth. Names are keys here."""

from collections.abc import Iterable, Mapping

from weir.context_lake import names
from weir.context_lake.document import View

MAX_DEPTH = 16

Lineage = Mapping[str, tuple[str, ...]]
"""Each view's key with the keys that it reads."""


def lineage_of(views: Iterable[View]) -> dict[str, tuple[str, ...]]:
    return {names.key_of(view.name): tuple(view.reads) for view in views}


def in_order(views: Iterable[View]) -> list[View]:
    """The views so that each follows what it reads; by name where nothing else decides."""
    known = {names.key_of(view.name): view for view in views}
    ordered: dict[str, View] = {}

    def place(key: str) -> None:
        if key in ordered or key not in known:
            return
        for read in sorted(known[key].reads):
            place(read)
        ordered[key] = known[key]

    for key in sorted(known):
        place(key)
    return list(ordered.values())


def dependents_of(key: str, lineage: Lineage) -> set[str]:
    """Every view that reads this relation, itself or through other views."""
    found: set[str] = set()
    while more := {view for view, reads in lineage.items() if {key, *found} & {*reads}} - found:
        found |= more
    return found


def bases_of(key: str, lineage: Lineage) -> set[str]:
    """Everything under a view: what it reads, itself or through other views."""
    found: set[str] = set()
    waiting = [key]
    while waiting:
        more = set(lineage.get(waiting.pop(), ())) - found
        found |= more
        waiting += more
    return found


def circle_through(key: str, lineage: Lineage) -> list[str] | None:
    """The shortest way from a view back to itself, e.g. a, b, a; None when there is none."""
    ways = {read: [key, read] for read in lineage.get(key, ())}
    waiting = list(ways)
    while waiting:
        at = waiting.pop(0)
        if at == key:
            return ways[at]
        for read in lineage.get(at, ()):
            if read not in ways:
                ways[read] = [*ways[at], read]
                waiting.append(read)
    return None


def deepest_chain(lineage: Lineage) -> list[str]:
    """The longest pile of views, the top one first. Only for a lineage without circles."""
    chains: dict[str, list[str]] = {}

    def chain(key: str) -> list[str]:
        if key not in chains:
            below = [chain(read) for read in lineage[key] if read in lineage]
            chains[key] = [key, *max(below, key=len, default=[])]
        return chains[key]

    return max((chain(key) for key in lineage), key=len, default=[])
