"""Small hot files as tables in memory: decoded once, used for as long as the files are the ones that were read.

For statements over one table only: joins are planned by the statistics that files have and memory has not.
"""

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from datafusion.catalog import Table
from msgspec import Struct, structs

from weir.lake_runtime.confine import resident_bytes
from weir.lake_runtime.relations import Relation
from weir.lake_runtime.session import opening_session
from weir.lake_runtime.settings import MEBIBYTE, RuntimeSettings
from weir.lake_runtime.sources.listing import Location

HOT_USES = 2
"""So many uses within `HOT_SECONDS` make a table worth its memory."""
HOT_SECONDS = 60.0
IDLE_SECONDS = 120.0
PRESSURE = 0.7
"""Above this share of the runtime's memory nothing is kept, and for `CALM_SECONDS` nothing is read."""
CALM_SECONDS = 10.0
IN_USE_SECONDS = 10.0
"""A copy used within these does not give way to another."""
REFUSED_SECONDS = 300.0
_LOOK_SECONDS = 0.25
_MOST_FILES = 64
# Two writes within one tick of the file system's clock have one time stamp: younger files are not trusted.
_SETTLED_NANOSECONDS = 2_000_000_000
# Below this a scan of the file is in one part, and its rows come in the file's order.
_UNDIVIDED_BYTES = 4 * MEBIBYTE

_log = logging.getLogger(__name__)

Mark = tuple[tuple[str, int, int, int, int], ...]
"""Of every file: path, inode, size, and when its bytes and its inode were written."""


class _Kept(Struct):
    source: Table
    mark: Mark
    table: Table
    size: int
    used: float


class _Asked(Struct):
    """A table that is not kept: how often it was wanted of late, and until when reading it is of no use."""

    source: Table
    mark: Mark
    since: float
    uses: int = 0
    not_before: float = 0.0


class KeptTables:
    """Copies by the name of their dataset, the least recently used first; planning threads call `find`."""

    def __init__(
        self,
        settings: RuntimeSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        resident: Callable[[], int] = lambda: resident_bytes(os.getpid()),
    ) -> None:
        self._settings = settings
        self._room = settings.kept_tables_bytes
        self._clock = clock
        self._resident = resident
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._asked: dict[str, _Asked] = {}
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="keep")
        self._reading: set[str] = set()
        self._is_watched = False
        self._calm_from = 0.0
        self._tell_loss: Callable[[], None] = lambda: None

    @property
    def is_reading(self) -> bool:
        """Whether a copy is being made: the process is busy for good reason."""
        return bool(self._reading)

    @property
    def size(self) -> int:
        """Bytes that the copies hold."""
        return sum(kept.size for kept in self._kept.values())

    def find(self, relation: Relation) -> Table | None:
        """The copy of a dataset if its files are still the ones that were read; a use makes it more likely kept."""
        source, location = relation.table, relation.location
        if relation.names_files:
            return None
        if not self._room or source is None or location is None or (mark := mark_of(location)) is None:
            return None
        now = self._clock()
        with self._lock:
            kept = self._kept.get(relation.name)
            if kept is not None and kept.source is source and kept.mark == mark:
                kept.used = now
                self._kept.move_to_end(relation.name)
                return kept.table
            if self._kept.pop(relation.name, None) is not None:
                self._tell_loss()
            if self._is_worth_reading(relation.name, source, mark, now):
                self._reading.add(relation.name)
                self._reader.submit(self._read, relation.name, source, location, mark)
        return None

    def watch_losses(self, tell: Callable[[], None]) -> None:
        """Have it told, in any thread, whenever a copy has been given up: nobody may hold it then."""
        self._tell_loss = tell

    def holds(self, copy: Table) -> bool:
        """Whether this is a copy that is kept now."""
        with self._lock:
            return any(kept.table is copy for kept in self._kept.values())

    def look(self) -> bool:
        """Drop what is idle, or everything under pressure; whether anything is left to look after."""
        now = self._clock()
        with self._lock:
            before = len(self._kept)
            if self._is_pressed():
                self._kept.clear()
                self._calm_from = now + CALM_SECONDS
            for name in [n for n, kept in self._kept.items() if now - kept.used > IDLE_SECONDS]:
                del self._kept[name]
            if len(self._kept) < before:
                self._tell_loss()
            self._is_watched = bool(self._kept)
            return self._is_watched

    def _is_worth_reading(self, name: str, source: Table, mark: Mark, now: float) -> bool:
        asked = self._asked.get(name)
        if asked is None or asked.source is not source or asked.mark != mark:
            asked = self._asked[name] = _Asked(source, mark, now)
        elif now - asked.since > HOT_SECONDS:
            asked.since, asked.uses = now, 0
        asked.uses += 1
        return (
            asked.uses >= HOT_USES
            and now >= max(asked.not_before, self._calm_from)
            and name not in self._reading
            and sum(size for _, _, size, _, _ in mark) <= self._room
            and max((max(times) for _, _, _, *times in mark), default=0)
            < time.time_ns() - _SETTLED_NANOSECONDS
        )

    def _read(self, name: str, source: Table, location: Location, mark: Mark) -> None:
        """Make a copy, unless it has no room or its files change meanwhile; then not again for a while."""
        try:
            copy = self._copy(source)
        except Exception as error:  # noqa: BLE001 - whoever asks for the table meets the error and is told
            _log.info("a table is not kept in memory: %s", type(error).__name__)
            copy = None
        now = self._clock()
        with self._lock:
            self._reading.discard(name)
            if copy is None or mark_of(location) != mark or not self._has_room(copy[1]):
                if (asked := self._asked.get(name)) is not None:
                    asked.not_before = now + REFUSED_SECONDS
                return
            self._asked.pop(name, None)
            self._kept[name] = _Kept(source, mark, *copy, now)
            if not self._is_watched:
                self._is_watched = True
                threading.Thread(target=self._watch, name="keep-watch", daemon=True).start()

    def _copy(self, source: Table) -> tuple[Table, int] | None:
        """The rows in their order, in memory; None when they have no room, or are none."""
        # One part: several would come in any order.
        session = opening_session(structs.replace(self._settings, partitions=1))
        batches: list[pa.RecordBatch] = []
        size = 0
        for item in session.read_table(source).execute_stream():
            batch = item.to_pyarrow()
            size += batch.nbytes
            with self._lock:
                if not self._has_room(size):
                    return None
            batches.append(batch)
        if not batches or batches[0].schema != source.schema:
            return None
        step = len(batches) if size < _UNDIVIDED_BYTES else -(-len(batches) // self._settings.partitions)
        parts = [batches[at : at + step] for at in range(0, len(batches), step)]
        # The engine would divide a table of fewer parts than cores by itself, and mix its rows.
        parts += [[] for _ in range(self._settings.partitions - len(parts))]
        session.register_record_batches("kept", parts)
        return session.catalog().schema().table("kept"), size

    def _has_room(self, size: int) -> bool:
        """Whether so much may be held beside the copies in use; the others give way."""
        now = self._clock()
        if now < self._calm_from or self._is_pressed():
            return False
        while self._kept and self.size + size > self._room:
            oldest = next(iter(self._kept))
            if now - self._kept[oldest].used < IN_USE_SECONDS:
                return False
            del self._kept[oldest]
            self._tell_loss()
        return size <= self._room

    def _is_pressed(self) -> bool:
        return self._resident() > PRESSURE * self._settings.memory_limit_bytes

    def _watch(self) -> None:
        while self.look():
            time.sleep(_LOOK_SECONDS)


def mark_of(location: Location) -> Mark | None:
    """What tells a change of local files; None for others, for too many, and when one cannot be looked at."""
    if location.store is not None or not location.url.startswith("file://"):
        return None
    path = Path(unquote(urlsplit(location.url).path))
    try:
        files = [path] if not location.is_folder else _files(path)
        return None if len(files) > _MOST_FILES else tuple(map(_stamp, files))
    except OSError:
        return None


def _files(folder: Path) -> list[Path]:
    """Every file below; a few more than are allowed when there are too many."""
    found: list[Path] = []
    folders = [folder]
    while folders and len(found) <= _MOST_FILES:
        here = folders.pop()
        for entry in sorted(here.iterdir()):
            (folders if entry.is_dir() else found).append(entry)
        if len(folders) > _MOST_FILES:
            return found + folders
    return found


def _stamp(path: Path) -> tuple[str, int, int, int, int]:
    found = path.stat()
    return str(path), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
