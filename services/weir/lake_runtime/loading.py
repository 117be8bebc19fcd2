"""One load of a relation's kept rows, in a thread: read the source, write a generation, open it.

A full load replaces the rows; an append reads what is newer than the newest row, and links what is there.
Nothing that answers is touched: the caller puts the new table in the old one's place.
"""

import base64
import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
from datafusion import DataFrame, SessionContext, col, literal
from datafusion.catalog import Table
from msgspec import Struct, structs

from weir.lake_runtime.drift import Drift, SchemaDrifted, drift_between, plain_type
from weir.lake_runtime.embedded_columns import SUFFIX, EmbeddedColumns
from weir.lake_runtime.embedder import Embedder
from weir.lake_runtime.generations import Generation, Shelf, Shelves, mark_of
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources.wording import quote_name
from weir.lake_runtime.stores import MOST_PARTS, Incoming, KeyedStore, MemoryStore, ParquetStore, Store
from weir.lake_runtime.time_columns import TimeColumn
from weir.lake_runtime.wire import Dataset, Keeping, View

_LOOK_SECONDS = 0.5


class Kept(Struct, frozen=True):
    """A generation, opened."""

    generation: Generation
    table: Table
    selective: Table | None = None


class Read(Struct, frozen=True):
    """A relation's source, planned: its rows, and the session that would read them."""

    session: SessionContext
    frame: DataFrame


class Loader:
    """What one relation keeps; it outlives versions of the configuration that leave its definition alone."""

    def __init__(
        self, definition: Dataset | View, settings: RuntimeSettings, shelves: Shelves, embedder: Embedder
    ) -> None:
        assert definition.keeping is not None
        self.keeping: Keeping = definition.keeping
        self.kept: Kept | None = None
        """What answers; set by whoever puts it in place."""
        self._name = definition.name
        self._shelves = shelves
        self._shelf: Shelf = shelves.of(definition.name)
        self._is_in_memory = self.keeping.store == "memory"
        self._store = _store_of(self.keeping, settings, definition.name)
        self._fingerprint = fingerprint_of(definition)
        self._embedder = embedder
        self._embedded = definition.embedded if isinstance(definition, Dataset) else []

    def take_over(self, other: "Loader") -> bool:
        """Go on from what another one keeps, if that is what this one would; False when it is not."""
        if other.kept is None or other._fingerprint != self._fingerprint:
            return False
        self.kept, self._store = other.kept, other._store
        return True

    def find_last(self) -> Kept | None:
        """What an earlier process has left, if its definition was this one. Blocks on the disk."""
        if self._is_in_memory:
            return None
        generation = self._shelf.newest(self._fingerprint)
        if generation is None:
            return None
        return Kept(generation, *self._store.open(self._shelf.directory(generation.number), generation))

    def load(
        self, read: Callable[[], Read], *, most_bytes: int, stop: Callable[[], None], accepts_drift: bool
    ) -> Kept | None:
        """A new generation, written and opened; None when an append finds nothing new. Blocks.

        `stop` raises when the load is not wanted any more. Raises a Fault, or what the source raises.
        """
        self._require_room(most_bytes)
        source = read()
        embedding = self._embedding(source)
        now = source.frame.schema() if embedding is None else embedding.schema(source.frame.schema())
        before, drift = self.kept, self._drift(now, accepts_drift)
        if before is None or drift is None or not self.keeping.appends:
            frame = self._retained(self._windowed(source.frame), source.frame.schema())
            return self._write(frame, None, now, most_bytes, stop, embedding)
        newer = self._newer(source, before)
        if not drift.is_none or self._is_in_pieces(before):
            old = _aligned(source.session.read_table(before.table), _kept_schema(now))
            return self._write(newer, old, now, most_bytes, stop, embedding)
        return self._write(newer, before, now, most_bytes, stop, embedding)

    def retain(self, session: SessionContext, *, most_bytes: int, stop: Callable[[], None]) -> Kept | None:
        """A generation without the rows whose time is over; None when there are none. Blocks."""
        if self.kept is None:
            return None
        frame = session.read_table(self.kept.table)
        left = self._retained(frame, frame.schema())
        if left.count() == self.kept.generation.row_count:
            return None
        return self._write(left, None, left.schema(), most_bytes, stop)

    def forget_older(self, number: int) -> None:
        """Drop what no statement reads any more; the generation before this one stays as a spare."""
        if not self._is_in_memory:
            self._shelf.drop_before(number - 1)

    def directory(self, number: int) -> Path:
        return self._shelf.directory(number)

    def _embedding(self, source: Read) -> EmbeddedColumns | None:
        """What embeds the rows of this load; what is kept has its vectors already."""
        if not self._embedded:
            return None
        embedding = EmbeddedColumns(self._name, self._embedded, self._embedder)
        if self.kept is not None:
            old = source.session.read_table(self.kept.table)
            names = {column.name + end for column in self._embedded for end in ("", SUFFIX)}
            embedding.remember(
                _batches(old.select(*(quote_name(n) for n in old.schema().names if n in names)))
            )
        return embedding

    def _drift(self, now: pa.Schema, accepts_drift: bool) -> Drift | None:
        """What has changed since the last load; None when it is as if there had been none."""
        if self.kept is None:
            return None
        known = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.kept.generation.schema)))
        drift = drift_between(known, now)
        if not drift.refused:
            return drift
        if accepts_drift:
            return None
        raise SchemaDrifted(drift.refused)

    def _windowed(self, frame: DataFrame) -> DataFrame:
        seconds = self.keeping.windowSeconds
        return frame if seconds is None else frame.filter(self._time(frame.schema()).within(seconds))

    def _retained(self, frame: DataFrame, schema: pa.Schema) -> DataFrame:
        keeping = self.keeping
        if keeping.retentionSeconds is not None:
            frame = frame.filter(self._time(schema).within(keeping.retentionSeconds))
        if keeping.retentionCondition:
            frame = frame.filter(f"({keeping.retentionCondition}) IS NOT TRUE")
        return frame

    def _newer(self, source: Read, before: Kept) -> DataFrame:
        """The source's rows that are not kept yet."""
        old = source.session.read_table(before.table)
        newest = self._time(old.schema()).newest(old)
        frame = self._retained(self._windowed(source.frame), source.frame.schema())
        if newest is None:
            return frame
        overlap, moments = self.keeping.overlapSeconds, self._time(frame.schema())
        frame = frame.filter(moments.after(newest, overlap_seconds=overlap))
        # With keys a row that comes again meets itself; without, it must not come twice.
        if not overlap or self.keeping.store == "duckdb":
            return frame
        known = _aligned(old, frame.schema())
        return frame.except_all(known.filter(moments.after(newest, overlap_seconds=overlap)))

    def _time(self, schema: pa.Schema) -> TimeColumn:
        return TimeColumn(schema, self.keeping.timeColumn, self.keeping.timeFormat)

    def _is_in_pieces(self, before: Kept) -> bool:
        return self.keeping.store == "parquet" and len(before.generation.files) >= MOST_PARTS

    def _write(
        self,
        frame: DataFrame,
        before: Kept | DataFrame | None,
        schema: pa.Schema,
        most_bytes: int,
        stop: Callable[[], None],
        embedding: EmbeddedColumns | None = None,
    ) -> Kept | None:
        """`before` is a generation to go on from, or old rows to write again, or nothing."""
        partial = self._begin()
        try:
            kept_schema = _kept_schema(schema)
            batches = _batches(frame)
            if embedding is not None:
                batches = map(embedding.with_embeddings, batches)
            if isinstance(before, DataFrame):
                batches = itertools.chain(_batches(before), batches)
            rows = Incoming(batches=batches, schema=kept_schema, watch=self._watch(most_bytes, stop))
            if isinstance(before, Kept):
                came = self._store.extend(partial, self.directory(before.generation.number), rows)
                if not came:
                    return None
            else:
                self._store.write(partial, rows)
            stop()
            return self._commit(partial, kept_schema)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _begin(self) -> Path:
        if not self._is_in_memory:
            return self._shelf.begin()
        return Path(f"gen-{1 if self.kept is None else self.kept.generation.number + 1}")

    def _commit(self, partial: Path, schema: pa.Schema) -> Kept:
        row_count, byte_count = self._store.measure(partial)
        generation = Generation(
            number=int(partial.name.removeprefix("gen-")) if self._is_in_memory else 0,
            fingerprint=self._fingerprint,
            row_count=row_count,
            byte_count=byte_count,
            schema=base64.b64encode(schema.serialize().to_pybytes()).decode(),
            loaded_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        directory = partial
        if not self._is_in_memory:
            files = {entry.name: entry.stat().st_size for entry in partial.iterdir()}
            generation = structs.replace(generation, files=files)
            generation = self._shelf.commit(partial, generation)
            directory = self.directory(generation.number)
        try:
            return Kept(generation, *self._store.open(directory, generation))
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise

    def _watch(self, most_bytes: int, stop: Callable[[], None]) -> Callable[[], None]:
        looked = time.monotonic()

        def watch() -> None:
            nonlocal looked
            stop()
            if time.monotonic() - looked > _LOOK_SECONDS:
                looked = time.monotonic()
                self._require_room(most_bytes)

        return watch

    def _require_room(self, most_bytes: int) -> None:
        if not self._is_in_memory:
            self._shelves.require_room(most_bytes)


def fingerprint_of(definition: Dataset | View) -> str:
    """Of what decides which rows are kept; when they are read, and with which credentials, does not."""
    keeping = definition.keeping
    assert keeping is not None
    shape = structs.replace(
        keeping,
        overlapSeconds=0,
        retentionSeconds=None,
        retentionCondition="",
        retentionEverySeconds=None,
        readyAtOnce=False,
    )
    if isinstance(definition, View):
        return mark_of([definition.sql, definition.fingerprint, shape])
    source = definition.fingerprint or [definition.connector, definition.location, definition.format]
    return mark_of([definition.from_, source, shape, definition.embedded])


def _store_of(keeping: Keeping, settings: RuntimeSettings, name: str) -> Store:
    match keeping.store:
        case "memory":
            return MemoryStore(settings)
        case "duckdb":
            return KeyedStore(settings, keeping, name)
        case _:
            return ParquetStore(settings)


def _kept_schema(schema: pa.Schema) -> pa.Schema:
    """Every column may be null: a later load may know less. Files carry nothing beside the columns."""
    return pa.schema([pa.field(field.name, plain_type(field.type), nullable=True) for field in schema])


def _aligned(frame: DataFrame, schema: pa.Schema) -> DataFrame:
    """Old rows under new columns."""
    known = set(frame.schema().names)
    columns = [
        (col(quote_name(field.name)) if field.name in known else literal(None)).cast(field.type)
        .alias(field.name)
        for field in schema
    ]  # fmt: skip
    return frame.select(*columns)


def _batches(frame: DataFrame) -> Iterator[pa.RecordBatch]:
    for item in frame.execute_stream():
        batch = item.to_pyarrow()
        if batch.num_rows:
            yield batch
