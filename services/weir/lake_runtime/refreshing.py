"""The loads of a runtime: how many at once, in which threads, how they are stopped, and what they read."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from datafusion import SessionContext

from weir.lake_runtime import guard
from weir.lake_runtime.catalog import LakeCatalog, Scope, planning
from weir.lake_runtime.faults import Fault
from weir.lake_runtime.generations import Shelves
from weir.lake_runtime.loading import Read
from weir.lake_runtime.readers import Readers
from weir.lake_runtime.relations import Opened, Relation
from weir.lake_runtime.session import CATALOG, QUERIES_ONLY, loading_session
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.similarity import for_the_engine
from weir.lake_runtime.sources.opening import OpenedSource
from weir.lake_runtime.stores import LoadStopped
from weir.lake_runtime.task_history import TaskHistory
from weir.lake_runtime.wire import Dataset

# Large loads at once would share one budget of memory.
AT_ONCE = 2
LOAD_SECONDS = 3600.0

T = TypeVar("T")


class LoadTooLong(Fault):
    status, code = 504, "timeout"


class Loads:
    """What all versions of a lake share of their loads."""

    def __init__(self, settings: RuntimeSettings) -> None:
        self.shelves = Shelves(settings.cache_dir)
        self.readers = Readers()
        self.active = 0
        """How many are under way or wait for their turn."""
        self._places = asyncio.Semaphore(AT_ONCE)
        # More than may work: one whose source hangs is left behind, and the next ones need a thread.
        self._threads = ThreadPoolExecutor(32, thread_name_prefix="load")
        self.shelves.clear_away()

    async def run(self, work: Callable[..., T], *, seconds: float, is_wanted: Callable[[], bool]) -> T:
        """`work(stop=…)` in a thread. Raises LoadStopped, LoadTooLong, and what the work raises."""
        stopping = threading.Event()

        def stop() -> None:
            if stopping.is_set() or not is_wanted():
                raise LoadStopped

        try:
            async with self._places:
                # What a load reads of other relations' generations must stay there meanwhile.
                with self.readers.reading():
                    running = asyncio.get_running_loop().run_in_executor(
                        self._threads, partial(work, stop=stop)
                    )
                    return await asyncio.wait_for(running, seconds)
        except TimeoutError:
            raise LoadTooLong(f"The load did not end within {seconds:.0f} s.") from None
        finally:
            stopping.set()


def read_dataset(dataset: Dataset, opened: OpenedSource, settings: RuntimeSettings) -> Read:
    """A dataset's source in a session of its own: a load must not take the memory of the answers."""
    assert dataset.keeping is not None
    session = loading_session(settings)
    location = opened.location
    if location is not None and location.store is not None:
        session.register_object_store(f"{location.scheme}://", location.store, host=location.host)
    if not dataset.keeping.refreshSql:
        return Read(session, session.read_table(opened.table))
    source = Relation(dataset)
    source.opened(Opened(opened.table))
    session.register_catalog_provider(CATALOG, LakeCatalog({dataset.name: source}, TaskHistory()))  # type: ignore[arg-type]
    guard.check(dataset.keeping.refreshSql)
    with planning(Scope()):
        return Read(
            session, session.sql_with_options(for_the_engine(dataset.keeping.refreshSql), QUERIES_ONLY)
        )


def read_view(session: SessionContext, sql: str, expansions: dict[str, int], scope: Scope) -> Read:
    """A view's rows over what its scope pins. Raises RelationOpening."""
    guard.check(sql, views=expansions)
    with planning(scope):
        return Read(session, session.sql_with_options(for_the_engine(sql), QUERIES_ONLY))
