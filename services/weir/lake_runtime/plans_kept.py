"""Statements as they were planned, kept for the next one of the same text: parsing, names and guard are done once.

What is kept is the plan before the engine optimises it: each run lists the files and reads them anew. It belongs to
one `Lake` and goes whenever a table is opened again.
"""

import threading
from collections import OrderedDict

import pyarrow as pa
from datafusion import DataFrame
from datafusion.catalog import Table
from msgspec import Struct

from weir.lake_runtime.kept_tables import KeptTables
from weir.lake_runtime.pushdown import Pushed
from weir.lake_runtime.relations import Relation
from weir.lake_runtime.wire import SqlRequest

MOST_PLANS = 256
MOST_TEXT = 16 * 1024
# A run that took no longer may block a thread the next time.
QUICK_SECONDS = 0.1

PlanKey = tuple[str, int | None, frozenset[str] | None]


class Plan(Struct, kw_only=True):
    """A statement's logical plan, and what was learnt of it."""

    frame: DataFrame
    schema: pa.Schema
    limit: int | None
    shows_plan: bool
    """Whether it is an EXPLAIN, whose rows tell of the plan."""
    is_repeatable: bool
    """Whether the same text over the same tables gives the same answer."""
    touched: dict[str, Relation]
    asks_for_copies: bool
    """Whether a copy in memory may take the place of the only table it names."""
    copies: list[Table | None]
    """What took its place when this was planned; None for the table itself."""
    pushed: Pushed | None = None
    """The one run of a statement that its source answers as a whole."""
    is_local: bool
    """Whether it reads local files at most: another source may fall silent from one run to the next."""
    is_quick: bool = False
    """Whether it is local, and its last run was over at once, and small: the next one may block a thread."""

    @property
    def reads_files(self) -> bool:
        """Whether it reads more than copies in memory; it may all the same, when they are gone by then."""
        return bool(self.touched) and (not self.copies or any(copy is None for copy in self.copies))


class PlansKept:
    """The plans that were asked for last; a copy that is given up is held by none of them."""

    def __init__(self, tables: KeptTables) -> None:
        self._tables = tables
        self._kept: OrderedDict[PlanKey, Plan] = OrderedDict()
        # Copies are given up in threads of their own.
        self._lock = threading.Lock()
        tables.watch_losses(self.forget_copies)

    def find(self, key: PlanKey | None) -> Plan | None:
        with self._lock:
            if key is None or (plan := self._kept.get(key)) is None:
                return None
            self._kept.move_to_end(key)
            return plan

    def keep(self, key: PlanKey | None, plan: Plan) -> None:
        """A plan that reads a moment's state, says something else each time or runs but once is not kept."""
        if key is None or not plan.is_repeatable or plan.pushed is not None:
            return
        if len(set(map(id, plan.copies))) > 1:
            return
        with self._lock:
            self._kept[key] = plan
            if len(self._kept) > MOST_PLANS:
                self._kept.popitem(last=False)
        if not all(copy is None or self._tables.holds(copy) for copy in plan.copies):
            # Given up while it was planned with.
            self.forget_copies()

    def reads_what_is_there(self, plan: Plan) -> bool:
        """Whether planning now would choose the same copies: files that have changed have none, hot ones do.

        Counts as a use, as planning would.
        """
        if not plan.asks_for_copies:
            return True
        return all(self._tables.find(relation) is plan.copies[-1] for relation in plan.touched.values())

    def forget_copies(self) -> None:
        """Let go of every plan that reads a copy: what is given up must leave memory."""
        with self._lock:
            for key in [
                key for key, plan in self._kept.items() if any(copy is not None for copy in plan.copies)
            ]:
                del self._kept[key]

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()


def plan_key(request: SqlRequest, allowed: frozenset[str] | None) -> PlanKey | None:
    """What a plan depends on; None when it depends on values besides, or is too long to keep."""
    if request.parameters or len(request.query) > MOST_TEXT:
        return None
    return request.query, request.maxRows, allowed
