"""One version of a tenant's configuration as a lake that answers: open its datasets, plan its views."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

from datafusion import DataFrame, SessionContext
from datafusion.catalog import Table
from msgspec import Struct

from weir.lake_runtime import guard
from weir.lake_runtime.catalog import RUNTIME_SCHEMA, LakeCatalog, Scope, Tables, planning
from weir.lake_runtime.embed_function import register_embed
from weir.lake_runtime.embedder import Embedder
from weir.lake_runtime.faults import DatasetNotFound, Fault, SourceError, SqlError, translate
from weir.lake_runtime.kept_tables import KeptTables
from weir.lake_runtime.loading import Kept, Loader, Read
from weir.lake_runtime.plans_kept import PlansKept
from weir.lake_runtime.refreshing import LOAD_SECONDS, Loads, read_dataset, read_view
from weir.lake_runtime.relations import Opened, Relation, RelationOpening
from weir.lake_runtime.results_cache import ResultsCache
from weir.lake_runtime.scrub import scrub
from weir.lake_runtime.session import CATALOG, QUERIES_ONLY, answering_session
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.similarity import for_the_engine
from weir.lake_runtime.sources.listing import Location
from weir.lake_runtime.sources.opening import OpenedSource, open_source, opening_seconds
from weir.lake_runtime.starting import Start
from weir.lake_runtime.stores import LoadStopped
from weir.lake_runtime.task_history import TaskHistory
from weir.lake_runtime.wire import Configuration, Dataset, View

RETRY_SECONDS = 2.0
MOST_RETRY_SECONDS = 300.0
_AT_ONCE = 8
# The desk's own measure.
RUNNING = 10
# See `starting.py`.
BEGINNING = 2


class Threads:
    """What the versions of a lake share: opening may block for as long as a source likes; planning must
    not queue behind it; and no more statements run at once than one desk lets in, however many desks ask.
    """

    def __init__(self) -> None:
        self.running = asyncio.Semaphore(RUNNING)
        self.beginning = asyncio.Semaphore(BEGINNING)
        self.embedder = Embedder()
        self.planning = ThreadPoolExecutor(16, thread_name_prefix="plan")
        self.opening = ThreadPoolExecutor(16, thread_name_prefix="open")
        # Its own few: a source that hangs under a probe must keep no dataset from opening.
        self.probing = ThreadPoolExecutor(8, thread_name_prefix="probe")


T = TypeVar("T")
aliases = itertools.count(1)
_log = logging.getLogger(__name__)


class Planned(Struct, frozen=True):
    """A view's plan, and what was learnt of it."""

    table: Table
    complexity: guard.Complexity
    scope: Scope


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
        kept: KeptTables,
        loads: Loads,
    ) -> None:
        self.version = configuration.version
        self.relations: dict[str, Relation] = {
            definition.name: Relation(definition)
            for definition in (*configuration.datasets, *configuration.views)
        }
        for relation in self.relations.values():
            if relation.definition.keeping is not None:
                relation.loader = Loader(relation.definition, settings, loads.shelves, threads.embedder)
        self.tables = Tables()
        self.session = answering_session(settings)
        self.sessions = [self.session]
        if any(relation.names_files for relation in self.relations.values()):
            self.sessions.append(answering_session(settings, names_files=True))
        self.embedder = threads.embedder
        for session in self.sessions:
            session.register_catalog_provider(CATALOG, LakeCatalog(self.relations, history, self.tables))  # type: ignore[arg-type]
            register_embed(session, self.embedder)
        self.results = ResultsCache()
        self.plans = PlansKept(kept)
        self.kept = kept
        self.secrets = [secret for relation in self.relations.values() for secret in relation.secrets()]
        self._settings = settings
        self._threads = threads
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._loads = loads
        self._history = history
        self._kept_bytes = configuration.keptBytes
        self._is_forced = configuration.force
        self._successor: Lake | None = None
        self._swapping = asyncio.Lock()
        """Held while tables are put in the place of others."""
        self._timers: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._retries: dict[str, asyncio.Task[None]] = {}
        self._reads_local_files = False

    def carry_over(self, previous: "Lake", *, force: bool = False) -> None:
        """Take over what the previous version has opened of what has not changed.

        With `force` only rows that are kept: they answer until they have been loaded anew.
        """
        tables: dict[str, Opened] = {}
        for name, relation in self.relations.items():
            known = previous.relations.get(name)
            if known is None or known.definition != relation.definition:
                if known is not None and known.table is not None and _takes_over(relation, known):
                    tables[name] = Opened(known.table, known.location, known.selective)
                    relation.opened(tables[name], loaded_at=known.loaded_at)
                    self._attach(known.location)
                continue
            if known.loader is None and (force or known.is_view or known.error is not None):
                continue
            if known.table is None and not known.is_loading:
                continue
            self._attach(known.location)
            known.is_kept = True
            self.relations[name] = known
            if known.table is not None:
                tables[name] = Opened(known.table, known.location, known.selective, known.source)
        self.tables.current = tables

    def start(self) -> None:
        """Open everything that is not open yet, in the background; what is kept is loaded anew when forced."""
        for relation in self.relations.values():
            loader = relation.loader
            if relation.status == "initializing" and not relation.is_loading:
                self._spawn(self._open_first(relation))
            elif self._is_forced and loader is not None:
                self._spawn(self._refresh_kept(relation, loader, accepts_drift=True))
            if loader is not None and loader.keeping.retentionEverySeconds:
                self._timers.append(
                    self._spawn(self._retain(relation, loader, loader.keeping.retentionEverySeconds))
                )
        kept = [name for name, relation in self.relations.items() if relation.loader is not None]
        self._loads.readers.after_these(lambda: self._forget_others(kept))

    def retire(self, successor: "Lake") -> None:
        """Another version has taken its place: it tries what has failed, and gets what is being loaded."""
        self._successor = successor
        for task in self._timers:
            task.cancel()
        for name, task in self._retries.items():
            # What is being loaded is waited for by the next version too.
            if not self.relations[name].is_loading:
                task.cancel()
        self.plans.clear()

    async def refresh(self, name: str, *, trigger: str = "", seconds: float = LOAD_SECONDS) -> Relation:
        """Read one dataset or kept view again; the views over it follow at the same moment.

        What happened is in the relation: one that could not be read keeps its table, and says so.
        """
        relation = self.find(name)
        if relation is None or (relation.is_view and relation.loader is None):
            raise DatasetNotFound(f"There is no dataset or materialised view {name!r}.")
        started = time.time()
        if relation.loader is None:
            await self._open_again(relation)
        else:
            await self._refresh_kept(relation, relation.loader, seconds=seconds)
        if not self._is_known(relation):
            # Another definition has taken its place meanwhile, and was not asked.
            return await self.newest().refresh(name, trigger=trigger, seconds=seconds)
        kept = None if relation.loader is None else relation.loader.kept
        self._history.note(
            "refresh",
            relation.name,
            started=started,
            error_message=None if relation.error is None else relation.error.message,
            trigger=trigger,
            rows="" if kept is None else str(kept.generation.row_count),
        )
        return relation

    async def settle(self, names: list[str] | None = None) -> None:
        """Wait until these relations (or all) have been opened or have failed."""
        for relation in list(self.relations.values()):
            if names is None or relation.name in names:
                await relation.settled()

    def place(self) -> asyncio.Semaphore:
        """Held by a statement while it is planned, runs and is read."""
        return self._threads.running

    def beginning(self, *, reads_files: bool) -> AbstractAsyncContextManager[Start | None]:
        """Held by a statement until its first rows; only reading local files has a price there."""
        if not reads_files or not self._reads_local_files:
            return nullcontext()
        return Start(self._threads.beginning, ample_bytes=self._settings.memory_limit_bytes // 3)

    def session_for(self, frame: DataFrame, read: list[Relation]) -> SessionContext:
        """The session that is to run a statement: another one when it asks which file a row is in."""
        if not any(relation.names_files for relation in read):
            return self.session
        asks = "input_file_name" in frame.optimized_logical_plan().display_indent()
        return self.sessions[-1] if asks else self.session

    def view_expansions(self) -> dict[str, int]:
        return {r.name: r.expansion for r in self.relations.values() if r.is_view}

    def find(self, name: str) -> Relation | None:
        """A relation by its name in any letter case, the exact one first."""
        if name in self.relations:
            return self.relations[name]
        return next((r for n, r in self.relations.items() if n.lower() == name.lower()), None)

    async def plan_in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads.planning, work)

    async def _open_first(self, relation: Relation) -> None:
        async with relation.turn:
            await self._open(relation)

    async def _open_again(self, relation: Relation) -> None:
        async with relation.turn:
            relation.is_loading = True
            try:
                await self._open(relation)
            finally:
                relation.is_loading = False

    async def _retry(self, relation: Relation) -> None:
        """Try a source that failed again, ever more patiently: what it lacked may be there by now."""
        while relation.status == "error" and self._is_known(relation):
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
            if relation.loader is not None:
                await self._open_kept(relation, relation.loader)
            elif isinstance(relation.definition, View):
                await self._plan_view(relation, relation.definition)
            else:
                opened = await self._open_source(relation.definition)
                await self._put_in_place(relation, _from_source(opened))
        except Exception as error:  # noqa: BLE001 - a source may fail in any way; it is its own
            relation.failed(fault_of(relation, error))
            is_source = not relation.is_view or relation.loader is not None
            if is_source and relation.name not in self._retries and self._successor is None:
                self._retries[relation.name] = self._spawn(self._retry(relation))
        self._forget_answers()

    def _forget_answers(self) -> None:
        """What was kept of answers and plans may have been read from what was there before."""
        self.results.clear()
        self.plans.clear()

    async def _open_source(self, dataset: Dataset) -> OpenedSource:
        alias = next(aliases)
        async with self._gate:
            seconds = opening_seconds(dataset)
            work = asyncio.get_running_loop().run_in_executor(
                self._threads.opening, lambda: open_source(dataset, alias, self._settings)
            )
            try:
                return await asyncio.wait_for(work, seconds)
            except TimeoutError:
                raise SourceError(dataset.name, f"no answer within {seconds:.0f} s") from None

    async def _open_kept(self, relation: Relation, loader: Loader) -> None:
        """The rows that an earlier process has left; else the source, until it has been loaded; else load."""
        last = await asyncio.get_running_loop().run_in_executor(
            self._threads.opening, lambda: _find_last(relation, loader)
        )
        if last is not None:
            await self._put_kept(relation, loader, last)
            return
        definition = relation.definition
        if loader.keeping.readyAtOnce and relation.table is None:
            if isinstance(definition, View):
                await self._plan_view(relation, definition)
            else:
                opened = await self._open_source(definition)
                await self._put_in_place(relation, _from_source(opened))
        await self._load(relation, loader, accepts_drift=False, seconds=LOAD_SECONDS)

    async def _refresh_kept(
        self,
        relation: Relation,
        loader: Loader,
        *,
        accepts_drift: bool = False,
        seconds: float = LOAD_SECONDS,
    ) -> None:
        async with relation.turn:
            try:
                await self._load(relation, loader, accepts_drift=accepts_drift, seconds=seconds)
            except Exception as error:  # noqa: BLE001 - a source may fail in any way; it is its own
                relation.failed(fault_of(relation, error))

    async def _load(self, relation: Relation, loader: Loader, *, accepts_drift: bool, seconds: float) -> None:
        """A new generation, in its place; the old one answers until then. Raises what the source raises."""
        relation.is_loading = True
        self._loads.active += 1
        try:
            while True:
                read = await self._reader_of(relation)
                try:
                    # What it has embedded in its thread ends with it.
                    with self.embedder.held(time.monotonic() + seconds):
                        kept = await self._loads.run(
                            partial(
                                loader.load, read, most_bytes=self._kept_bytes, accepts_drift=accepts_drift
                            ),
                            seconds=seconds,
                            is_wanted=lambda: self._is_known(relation),
                        )
                    break
                except RelationOpening as waiting:
                    await waiting.relation.settled()
        except LoadStopped:
            # Another definition has taken its place, and is loaded by itself; who waits for this one is told.
            if relation.table is None:
                raise SourceError(relation.name, "its definition has changed meanwhile; ask again") from None
            return
        finally:
            relation.is_loading = False
            self._loads.active -= 1
        if kept is None:
            relation.mend()
        else:
            await self._put_kept(relation, loader, kept)

    async def _reader_of(self, relation: Relation) -> Callable[[], Read]:
        """What reads the relation's source, in the thread of a load."""
        definition = relation.definition
        if isinstance(definition, Dataset):
            opened = await self._open_source(definition)
            return lambda: read_dataset(definition, opened, self._settings)
        lake = self.newest()

        def read() -> Read:
            return read_view(
                lake.session, definition.sql, lake.view_expansions(), Scope(before=definition.name)
            )

        return read

    async def _put_kept(self, relation: Relation, loader: Loader, kept: Kept) -> None:
        loader.kept = kept
        # Whoever reads it reads what it keeps, not what it was made of.
        relation.bases = frozenset()
        number = kept.generation.number
        location = Location(
            url=f"file://{loader.directory(number)}/", shown=relation.name, is_folder=True, sample=None
        )
        is_on_disk = loader.keeping.store == "parquet"
        opened = Opened(kept.table, location if is_on_disk else None, kept.selective)
        await self._put_in_place(relation, opened, loaded_at=kept.generation.loaded_at)
        self._loads.readers.after_these(lambda: loader.forget_older(number))

    async def _put_in_place(
        self, relation: Relation, opened: Opened, *, loaded_at: str | None = None
    ) -> None:
        """A table and every view over it, planned anew, take their places at once: nobody sees some of them."""
        while True:
            # A definition that has gone meanwhile is opened for the statements that wait for it here.
            lake = self.newest() if self._is_known(relation) else self
            async with lake._swapping:
                tables = {**lake.tables.current, relation.name: opened}
                lake._attach(opened.location)
                planned = await lake._plan_over(relation, tables)
                if lake._successor is not None and self._is_known(relation):
                    continue
                # Nothing else runs from here to the end.
                relation.opened(opened, loaded_at=loaded_at)
                for view, plan in planned:
                    if isinstance(plan, Planned):
                        _opened_view(view, plan)
                    else:
                        view.failed(plan)
                        view.close()
                lake.tables.current = tables
                lake._forget_answers()
                return

    async def _plan_over(
        self, relation: Relation, tables: dict[str, Opened]
    ) -> list[tuple[Relation, Planned | Fault]]:
        """The views that unfold to this relation, planned over these tables, which they join."""
        planned: list[tuple[Relation, Planned | Fault]] = []
        for view in list(self.relations.values()):
            definition = view.definition
            if not isinstance(definition, View) or view.loader is not None or relation.name not in view.bases:
                continue
            scope = Scope(before=view.name, pinned=tables)
            try:
                plan = await self.plan_in_thread(partial(self._plan_view_now, definition, scope))
            except RelationOpening:
                continue  # still on its first way: it will see what is there then
            except Exception as error:  # noqa: BLE001 - a view may be wrong in any way; it is its own
                tables.pop(view.name, None)
                planned.append((view, fault_of(view, error)))
            else:
                tables[view.name] = Opened(plan.table)
                planned.append((view, plan))
        return planned

    async def _plan_view(self, relation: Relation, view: View) -> None:
        """A view is its plan: it is planned once, and again when what is under it is opened again."""
        while True:
            scope = Scope(before=view.name, pinned=self.tables.current)
            try:
                plan = await self.plan_in_thread(partial(self._plan_view_now, view, scope))
            except RelationOpening as waiting:
                await waiting.relation.settled()
                continue
            finally:
                relation.bases = _bases_of(scope)
            async with self._swapping:
                if self._has_moved(scope):
                    continue
                _opened_view(relation, plan)
                self.tables.current = {**self.tables.current, relation.name: Opened(plan.table)}
                return

    def _has_moved(self, scope: Scope) -> bool:
        """Whether something that was read has another table by now."""
        current, pinned = self.tables.current, scope.pinned or {}
        return any(current.get(name) is not pinned.get(name) for name in _bases_of(scope))

    def _plan_view_now(self, view: View, scope: Scope) -> Planned:
        complexity = guard.check(view.sql, views=self.view_expansions())
        scope.looks_for_rows = complexity.looks_for_rows
        with planning(scope):
            table = self.session.sql_with_options(for_the_engine(view.sql), QUERIES_ONLY).into_view()
        return Planned(table, complexity, scope)

    async def _retain(self, relation: Relation, loader: Loader, every_seconds: float) -> None:
        """Drop the rows whose time is over, now and then, without a look at the source."""
        while True:
            await asyncio.sleep(every_seconds)
            async with relation.turn:
                try:
                    left = await self._loads.run(
                        partial(loader.retain, self.session, most_bytes=self._kept_bytes),
                        seconds=LOAD_SECONDS,
                        is_wanted=lambda: self._is_known(relation),
                    )
                except LoadStopped:
                    return
                except Exception as error:  # noqa: BLE001 - told in the log; the next round tries again
                    _log.warning("rows of %s were not retired: %s", relation.name, fault_of(relation, error))
                    continue
                if left is not None:
                    await self._put_kept(relation, loader, left)

    def _is_known(self, relation: Relation) -> bool:
        return self.newest().relations.get(relation.name) is relation

    def newest(self) -> "Lake":
        """The version that answers now."""
        lake = self
        while lake._successor is not None:
            lake = lake._successor
        return lake

    def _forget_others(self, kept: Iterable[str]) -> None:
        if self._successor is None:
            self._loads.shelves.keep_only(kept)

    def _attach(self, location: Location | None) -> None:
        if location is None:
            return
        self._reads_local_files |= location.url.startswith("file://")
        if location.store is not None:
            for session in self.sessions:
                session.register_object_store(f"{location.scheme}://", location.store, host=location.host)


def _takes_over(relation: Relation, known: Relation) -> bool:
    """Whether the same rows are kept of both: only their credentials, or when they are retired, have changed."""
    loader, before = relation.loader, known.loader
    return loader is not None and before is not None and loader.take_over(before)


def _from_source(opened: OpenedSource) -> Opened:
    return Opened(opened.table, opened.location, opened.selective, opened.source)


def _find_last(relation: Relation, loader: Loader) -> Kept | None:
    try:
        return loader.find_last()
    except Exception as error:  # noqa: BLE001 - whatever it is, the source has the rows
        _log.warning("kept rows of %s are not usable: %s", relation.name, error)
        return None


def _opened_view(view: Relation, plan: Planned) -> None:
    scope = plan.scope
    view.bases = _bases_of(scope)
    view.expansion = plan.complexity.expansion + 1
    view.is_volatile = (
        plan.complexity.is_volatile or scope.is_live or any(r.is_volatile for r in scope.touched.values())
    )
    view.opened(Opened(plan.table))


def _bases_of(scope: Scope) -> frozenset[str]:
    return frozenset(scope.touched).union(*(r.bases for r in scope.touched.values()))


def fault_of(relation: Relation, error: Exception) -> Fault:
    """Why a relation could not be opened, without its secrets; a dataset's is a `SourceError`."""
    fault = translate(error, datasets=[] if relation.is_view else [relation.name])
    if isinstance(fault, SourceError):
        return SourceError(fault.dataset, scrub(fault.reason, relation))
    fault.message = scrub(fault.message, relation)
    return fault if relation.is_view else SourceError(relation.name, fault.message)
