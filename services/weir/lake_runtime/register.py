"""One version of a tenant's configuration as a lake that answers: open its datasets, plan its views."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from datafusion.catalog import Table

from weir.lake_runtime import guard
from weir.lake_runtime.catalog import LakeCatalog, Scope, planning
from weir.lake_runtime.faults import DatasetNotFound, Fault, SourceError, translate
from weir.lake_runtime.relations import Relation, RelationOpening
from weir.lake_runtime.scrub import scrub
from weir.lake_runtime.session import CATALOG, QUERIES_ONLY, answering_session
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources.listing import Location
from weir.lake_runtime.sources.opening import open_source, opening_seconds
from weir.lake_runtime.wire import Configuration, Dataset, View

_AT_ONCE = 8


class Threads:
    """Opening may block for as long as a source likes; planning must not queue behind it."""

    def __init__(self) -> None:
        self.planning = ThreadPoolExecutor(16, thread_name_prefix="plan")
        self.opening = ThreadPoolExecutor(16, thread_name_prefix="open")


T = TypeVar("T")
_aliases = itertools.count(1)


class Lake:
    """Datasets and views of one configuration version, and the session that reads them.

    A new version is built aside and takes the old one's place; statements that run keep theirs.
    """

    def __init__(self, configuration: Configuration, settings: RuntimeSettings, threads: Threads):
        self.version = configuration.version
        self.relations: dict[str, Relation] = {
            definition.name: Relation(definition)
            for definition in (*configuration.datasets, *configuration.views)
        }
        self.session = answering_session(settings)
        self.session.register_catalog_provider(CATALOG, LakeCatalog(self.relations))  # type: ignore[arg-type]
        self._settings = settings
        self._threads = threads
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._refreshing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def carry_over(self, previous: "Lake") -> None:
        """Take over what the previous version has opened of datasets that have not changed."""
        for name, relation in self.relations.items():
            known = previous.relations.get(name)
            if known is None or known.is_view or known.definition != relation.definition:
                continue
            if known.table is not None and known.error is None:
                self._attach(known.location)
                self.relations[name] = known

    def start(self) -> None:
        """Open everything that is not open yet, in the background."""
        for relation in self.relations.values():
            if relation.status == "initializing":
                self._spawn(self._open(relation))

    async def refresh(self, name: str) -> Relation:
        """Open one dataset again, and plan again the views that read it."""
        relation = self.relations.get(name)
        if relation is None or relation.is_view:
            raise DatasetNotFound(f"There is no dataset {name!r}.")
        async with self._refreshing:
            await self._open(relation)
            for view in [r for r in self.relations.values() if name in r.bases]:
                await self._open(view)
        return relation

    async def settle(self, names: list[str] | None = None) -> None:
        """Wait until these relations (or all) have been opened or have failed."""
        for relation in list(self.relations.values()):
            if names is None or relation.name in names:
                await relation.settled()

    def view_expansions(self) -> dict[str, int]:
        return {r.name: r.expansion for r in self.relations.values() if r.is_view}

    def secrets(self) -> list[str]:
        return [secret for relation in self.relations.values() for secret in relation.secrets()]

    def find(self, name: str) -> Relation | None:
        """A relation by its name in any letter case, the exact one first."""
        if name in self.relations:
            return self.relations[name]
        return next((r for n, r in self.relations.items() if n.lower() == name.lower()), None)

    async def plan_in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads.planning, work)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, relation: Relation) -> None:
        try:
            if isinstance(relation.definition, View):
                await self._plan_view(relation, relation.definition)
            else:
                await self._open_dataset(relation, relation.definition)
        except Exception as error:  # noqa: BLE001 - a source may fail in any way; it is its own
            relation.failed(_fault(relation, error))

    async def _open_dataset(self, relation: Relation, dataset: Dataset) -> None:
        alias = next(_aliases)
        async with self._gate:
            seconds = opening_seconds(dataset)
            work = asyncio.get_running_loop().run_in_executor(
                self._threads.opening, lambda: open_source(dataset, alias, self._settings)
            )
            try:
                opened = await asyncio.wait_for(work, seconds)
            except TimeoutError:
                raise SourceError(dataset.name, f"no answer within {seconds:.0f} s") from None
        self._attach(opened.location)
        relation.opened(opened.table, location=opened.location)

    async def _plan_view(self, relation: Relation, view: View) -> None:
        """A view is its plan: it is planned once, and again when a dataset under it is re-opened."""
        while True:
            scope = Scope(before=view.name)
            try:
                table, expansion = await self.plan_in_thread(lambda: self._plan_view_now(view, scope))  # noqa: B023
            except RelationOpening as waiting:
                await waiting.relation.settled()
            else:
                relation.expansion = expansion
                relation.opened(table)
                return
            finally:
                relation.bases = frozenset(scope.touched).union(*(r.bases for r in scope.touched.values()))

    def _plan_view_now(self, view: View, scope: Scope) -> tuple[Table, int]:
        complexity = guard.check(view.sql, views=self.view_expansions())
        with planning(scope):
            return self.session.sql_with_options(view.sql, QUERIES_ONLY).into_view(), complexity.expansion + 1

    def _attach(self, location: Location | None) -> None:
        if location is not None and location.store is not None:
            self.session.register_object_store(f"{location.scheme}://", location.store, host=location.host)


def _fault(relation: Relation, error: Exception) -> Fault:
    fault = translate(error, datasets=[] if relation.is_view else [relation.name])
    if isinstance(fault, SourceError):
        return SourceError(fault.dataset, scrub(fault.reason, relation))
    fault.message = scrub(fault.message, relation)
    return fault if relation.is_view else SourceError(relation.name, fault.message)
