"""Whether the columns that views name exist: the last look at a revision, where the columns are known."""

from collections.abc import Mapping
from typing import Literal

import structlog
from msgspec import Struct

from weir.context_lake import lineage, names
from weir.context_lake.document import Document, View
from weir.context_lake.planning import Planned, Planner, PlannerUnavailable
from weir.context_lake.schemas import Schemas

log = structlog.get_logger(__name__)


class Verdict(Struct, frozen=True, kw_only=True):
    """What is known of one view: its columns, what is wrong with it, or which datasets nobody has read yet."""

    state: Literal["checked", "faulty", "deferred"]
    columns: list[str] = []
    message: str = ""
    code: str = ""
    unread: tuple[str, ...] = ()


class Columns(Struct, frozen=True):
    schemas: Schemas
    planner: Planner

    async def judge(self, tenant_id: str, document: Document, asked: set[str]) -> dict[str, Verdict]:
        """The verdict on each view of the document that is asked for, by key."""
        views = _needed(document, asked)
        reads = lineage.lineage_of(document.views)
        bases = {key: lineage.bases_of(key, reads) for key in views}
        datasets = {names.key_of(dataset.name): dataset for dataset in document.datasets}
        wanted = {base for key in views for base in bases[key] if base in datasets}
        known = await self.schemas.known(tenant_id, [datasets[base] for base in sorted(wanted)])
        unread = {base for base in wanted if datasets[base].name not in known}
        planned = await self._plan(known, [v for key, v in views.items() if not bases[key] & unread])
        return {
            key: _verdict(planned.get(key), sorted(datasets[base].name for base in bases[key] & unread))
            for key in asked
        }

    async def _plan(self, known: Mapping[str, bytes], views: list[View]) -> dict[str, Planned]:
        if not views:
            return {}
        try:
            planned = await self.planner.plan(known, views)
        except PlannerUnavailable as fault:
            log.error("views not checked", reason=str(fault))
            return {}
        pairs = zip(views, planned, strict=True)
        return {names.key_of(view.name): plan for view, plan in pairs if plan is not None}


def _needed(document: Document, asked: set[str]) -> dict[str, View]:
    """The views that are asked for and those under them, each after what it reads."""
    reads = lineage.lineage_of(document.views)
    under = asked.union(*(lineage.bases_of(key, reads) for key in asked))
    ordered = {names.key_of(view.name): view for view in lineage.in_order(document.views)}
    return {key: view for key, view in ordered.items() if key in under}


def _verdict(planned: Planned | None, unread: list[str]) -> Verdict:
    if planned is None:
        return Verdict(state="deferred", unread=tuple(unread))
    if planned.columns is None:
        return Verdict(state="faulty", message=planned.error or "", code=planned.code or "sql_error")
    return Verdict(state="checked", columns=planned.columns)
