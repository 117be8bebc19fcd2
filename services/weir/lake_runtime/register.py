"""One version of a tenant's configuration as a lake that answers: open its datasets, plan its views."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from datafusion.catalog import Table

from weir.lake_runtime import guard
from weir.lake_runtime.catalog import RUNTIME_SCHEMA, LakeCatalog, Scope, planning
from weir.lake_runtime.faults import DatasetNotFound, Fault, SourceError, SqlError, translate
from weir.lake_runtime.relations import Relation, RelationOpening
from weir.lake_runtime.results_cache import ResultsCache
from weir.lake_runtime.scrub import scrub
from weir.lake_runtime.session import CATALOG, QUERIES_ONLY, answering_session
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources.listing import Location
from weir.lake_runtime.sources.opening import open_source, opening_seconds
from weir.lake_runtime.task_history import TaskHistory
from weir.lake_runtime.wire import Configuration, Dataset, View

RETRY_SECONDS = 2.0
MOST_RETRY_SECONDS = 300.0
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

    def __init__(
        self,
        configuration: Configuration,
        settings: RuntimeSettings,
        threads: Threads,
        history: TaskHistory,
    ) -> None:
        self.version = configuration.version
        self.relations: dict[str, Relation] = {
            definition.name: Relation(definition)
            for definition in (*configuration.datasets, *configuration.views)
        }
        self.session = answering_session(settings)
        self.session.register_catalog_provider(CATALOG, LakeCatalog(self.relations, history))  # type: ignore[arg-type]
        self.results = ResultsCache()
        self.secrets = [secret for relation in self.relations.values() for secret in relation.secrets()]
        self._settings = settings
        self._threads = threads
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._refreshing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._retries: dict[str, asyncio.Task[None]] = {}

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

    def retire(self) -> None:
        """Another version has taken its place: it tries what has failed, not this one."""
        for task in self._retries.values():
            task.cancel()

    async def refresh(self, name: str) -> Relation:
        """Open one dataset again, and plan again the views that read it."""
        relation = self.relations.get(name)
        if relation is None or relation.is_view:
            raise DatasetNotFound(f"There is no dataset {name!r}.")
        await self._open_again(relation)
        return relation

    async def settle(self, names: list[str] | None = None) -> None:
        """Wait until these relations (or all) have been opened or have failed."""
        for relation in list(self.relations.values()):
            if names is None or relation.name in names:
                await relation.settled()

    def view_expansions(self) -> dict[str, int]:
        return {r.name: r.expansion for r in self.relations.values() if r.is_view}

    def find(self, name: str) -> Relation | None:
        """A relation by its name in any letter case, the exact one first."""
        if name in self.relations:
            return self.relations[name]
        return next((r for n, r in self.relations.items() if n.lower() == name.lower()), None)

    async def plan_in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads.planning, work)

    async def _open_again(self, relation: Relation) -> None:
        async with self._refreshing:
            await self._open(relation)
            for view in [r for r in self.relations.values() if relation.name in r.bases]:
                await self._open(view)

    async def _retry(self, relation: Relation) -> None:
        """Try a source that failed again, ever more patiently: what it lacked may be there by now."""
        while relation.status == "error":
            await asyncio.sleep(min(RETRY_SECONDS * 2 ** min(relation.failures - 1, 16), MOST_RETRY_SECONDS))
            await self._open_again(relation)
        del self._retries[relation.name]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _open(self, relation: Relation) -> None:
        if relation.name.partition(".")[0].lower() == RUNTIME_SCHEMA and "." in relation.name:
            relation.failed(SqlError(f"The schema {RUNTIME_SCHEMA!r} is the platform's own."))
            return
        try:
            if isinstance(relation.definition, View):
                await self._plan_view(relation, relation.definition)
            else:
                await self._open_dataset(relation, relation.definition)
        except Exception as error:  # noqa: BLE001 - a source may fail in any way; it is its own
            relation.failed(_fault(relation, error))
            if not relation.is_view and relation.name not in self._retries:
                self._retries[relation.name] = self._spawn(self._retry(relation))
        # What was kept may have been read from what was there before.
        self.results.clear()

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
                table, complexity = await self.plan_in_thread(lambda: self._plan_view_now(view, scope))  # noqa: B023
            except RelationOpening as waiting:
                await waiting.relation.settled()
            else:
                relation.expansion = complexity.expansion + 1
                relation.is_volatile = (
                    complexity.is_volatile
                    or scope.is_live
                    or any(r.is_volatile for r in scope.touched.values())
                )
                relation.opened(table)
                return
            finally:
                relation.bases = frozenset(scope.touched).union(*(r.bases for r in scope.touched.values()))

    def _plan_view_now(self, view: View, scope: Scope) -> tuple[Table, guard.Complexity]:
        complexity = guard.check(view.sql, views=self.view_expansions())
        with planning(scope):
            return self.session.sql_with_options(view.sql, QUERIES_ONLY).into_view(), complexity

    def _attach(self, location: Location | None) -> None:
        if location is not None and location.store is not None:
            self.session.register_object_store(f"{location.scheme}://", location.store, host=location.host)


def _fault(relation: Relation, error: Exception) -> Fault:
    fault = translate(error, datasets=[] if relation.is_view else [relation.name])
    if isinstance(fault, SourceError):
        return SourceError(fault.dataset, scrub(fault.reason, relation))
    fault.message = scrub(fault.message, relation)
    return fault if relation.is_view else SourceError(relation.name, fault.message)
