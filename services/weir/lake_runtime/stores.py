"""Where the rows of a generation lie: Parquet files, one DuckDB file when keys are asked for, or memory."""

import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from datafusion.catalog import Table
from msgspec import Struct

from weir.lake_runtime.faults import Fault
from weir.lake_runtime.generations import Generation
from weir.lake_runtime.session import opening_session
from weir.lake_runtime.settings import RuntimeSettings
from weir.lake_runtime.sources.database import DatabaseTable
from weir.lake_runtime.sources.duckdb import DuckDb, columns_of
from weir.lake_runtime.sources.wording import quote_name
from weir.lake_runtime.wire import Keeping

# A row group is written when so much has come together: what a load holds in memory.
GROUP_BYTES = 32 * 1024 * 1024
GROUP_ROWS = 1_000_000
# So many files are linked from generation to generation; then they become one.
MOST_PARTS = 24
_PARQUET = "part-{:04}.parquet"
_DUCKDB = "data.duckdb"
_TABLE = "kept"


class LoadStopped(Exception):
    """Whoever asked for a load does not want it any more."""


class KeysBroken(Fault):
    status, code = 409, "duplicate_key"


class TooLargeForMemory(Fault):
    status, code = 400, "too_large"


class Incoming(Struct, frozen=True, kw_only=True):
    """Rows on their way into a generation."""

    batches: Iterable[pa.RecordBatch]
    schema: pa.Schema
    watch: Callable[[], None]
    """Called now and then; raises when the load must end."""


class Store(Protocol):
    def write(self, directory: Path, rows: Incoming) -> int:
        """All rows of a generation; how many there are."""
        ...

    def extend(self, directory: Path, before: Path, rows: Incoming) -> int:
        """The rows of the generation before, and these; how many came."""
        ...

    def measure(self, directory: Path) -> tuple[int, int]:
        """Rows and bytes of what has been written."""
        ...

    def open(self, directory: Path, generation: Generation) -> tuple[Table, Table | None]:
        """The rows, and perhaps the same for statements that look for few of them."""
        ...


class ParquetStore:
    """Files that are never written again: a later generation links those of the one before."""

    def __init__(self, settings: RuntimeSettings) -> None:
        self._settings = settings

    def write(self, directory: Path, rows: Incoming) -> int:
        return self._write_part(directory / _PARQUET.format(0), rows)

    def extend(self, directory: Path, before: Path, rows: Incoming) -> int:
        parts = sorted(before.glob("*.parquet"))
        for number, part in enumerate(parts):
            _link(part, directory / _PARQUET.format(number))
        return self._write_part(directory / _PARQUET.format(len(parts)), rows)

    def measure(self, directory: Path) -> tuple[int, int]:
        parts = list(directory.glob("*.parquet"))
        return sum(pq.read_metadata(part).num_rows for part in parts), sum(p.stat().st_size for p in parts)

    def open(self, directory: Path, generation: Generation) -> tuple[Table, Table | None]:
        counted = self.measure(directory)[0]
        if counted != generation.row_count:
            raise Fault(f"{counted} rows are there instead of {generation.row_count}.")
        return self._table(directory), self._table(directory, is_selective=True)

    def _table(self, directory: Path, *, is_selective: bool = False) -> Table:
        session = opening_session(self._settings, is_selective=is_selective)
        session.register_parquet(_TABLE, f"{directory}/", file_extension=".parquet")
        return session.catalog().schema().table(_TABLE)

    def _write_part(self, path: Path, rows: Incoming) -> int:
        count = 0
        with pq.ParquetWriter(path, rows.schema, compression="zstd", compression_level=1) as writer:
            for group in _groups(rows):
                writer.write_table(group, row_group_size=GROUP_ROWS)
                count += group.num_rows
                rows.watch()
        return count


class KeyedStore:
    """One DuckDB file, for it has keys and indexes; a later generation is a copy that is written on."""

    def __init__(self, settings: RuntimeSettings, keeping: Keeping, name: str) -> None:
        self._settings = settings
        self._keeping = keeping
        self._name = name

    def write(self, directory: Path, rows: Incoming) -> int:
        keys = self._keeping.primaryKey
        with _database(directory / _DUCKDB, self._settings) as database:
            empty = rows.schema.empty_table()
            database.register("incoming", empty)
            database.execute(f"CREATE TABLE {_TABLE} AS SELECT * FROM incoming")  # noqa: S608 - names are quoted
            database.unregister("incoming")
            if keys:
                database.execute(f"ALTER TABLE {_TABLE} ADD PRIMARY KEY ({_listed(keys)})")
            for number, index in enumerate(self._keeping.indexes):
                unique = "UNIQUE " if index.unique else ""
                database.execute(f"CREATE {unique}INDEX kept_{number} ON {_TABLE} ({_listed(index.columns)})")
            return self._insert(database, rows)

    def extend(self, directory: Path, before: Path, rows: Incoming) -> int:
        shutil.copyfile(before / _DUCKDB, directory / _DUCKDB)
        with _database(directory / _DUCKDB, self._settings) as database:
            return self._insert(database, rows)

    def measure(self, directory: Path) -> tuple[int, int]:
        path = directory / _DUCKDB
        with _database(path, self._settings) as database:
            [counted] = database.execute(f"SELECT count(*) FROM {_TABLE}").fetchone()  # noqa: S608 - names are quoted
        return counted, path.stat().st_size

    def open(self, directory: Path, generation: Generation) -> tuple[Table, Table | None]:
        database = DuckDb(self._name, str(directory / _DUCKDB), self._settings)
        table = DatabaseTable(database, quote_name(_TABLE), columns_of(database, quote_name(_TABLE)))
        weakref.finalize(table, database.close)
        return Table(table), None

    def _insert(self, database: Any, rows: Incoming) -> int:
        import duckdb  # noqa: PLC0415 - loaded with the first keys

        sql, came = self._insertion(rows.schema.names), 0
        try:
            database.execute("BEGIN")
            for group in _groups(rows):
                database.register("incoming", group)
                database.execute(sql)
                database.unregister("incoming")
                came += group.num_rows
                rows.watch()
            database.execute("COMMIT")
        except duckdb.ConstraintException as error:
            text = " ".join(str(error).split())[:300]
            raise KeysBroken(f"Rows break a key of {self._name!r}: {text}") from None
        return came

    def _insertion(self, names: list[str]) -> str:
        keeping = self._keeping
        target = f"({_listed(keeping.conflictColumns)})" if keeping.conflictColumns else ""
        if keeping.onConflict == "fail":
            return f"INSERT INTO {_TABLE} BY NAME SELECT * FROM incoming"  # noqa: S608 - names are quoted
        if keeping.onConflict == "drop":
            return f"INSERT INTO {_TABLE} BY NAME SELECT * FROM incoming ON CONFLICT {target} DO NOTHING"  # noqa: S608 - names are quoted
        others = [name for name in names if name not in keeping.conflictColumns]
        updates = ", ".join(f"{quote_name(name)} = excluded.{quote_name(name)}" for name in others)
        # Of several rows of one key the last one counts, wherever the batches are cut.
        last = (
            "SELECT * EXCLUDE (weir_row) FROM (SELECT *, row_number() OVER () AS weir_row FROM incoming) "  # noqa: S608 - names are quoted
            f"QUALIFY row_number() OVER (PARTITION BY {_listed(keeping.conflictColumns)} "
            "ORDER BY weir_row DESC) = 1"
        )
        deed = f"UPDATE SET {updates}" if updates else "NOTHING"
        return f"INSERT INTO {_TABLE} BY NAME {last} ON CONFLICT {target} DO {deed}"


class MemoryStore:
    """Batches in the runtime's memory; they go with it."""

    def __init__(self, settings: RuntimeSettings) -> None:
        self._settings = settings
        self._most_bytes = settings.memory_limit_bytes // 4
        self._batches: dict[str, list[pa.RecordBatch]] = {}

    def write(self, directory: Path, rows: Incoming) -> int:
        return self._gather(directory, rows, [])

    def extend(self, directory: Path, before: Path, rows: Incoming) -> int:
        return self._gather(directory, rows, self._batches.get(before.name, []))

    def open(self, directory: Path, generation: Generation) -> tuple[Table, Table | None]:
        batches = self._batches[directory.name]
        self._batches = {directory.name: batches}
        session = opening_session(self._settings)
        parts = [batches[at :: self._settings.partitions] for at in range(self._settings.partitions)]
        session.register_record_batches(_TABLE, [part for part in parts if part])
        return session.catalog().schema().table(_TABLE), None

    def _gather(self, directory: Path, rows: Incoming, before: list[pa.RecordBatch]) -> int:
        gathered = list(before)
        size = sum(batch.nbytes for batch in gathered)
        came = 0
        for batch in rows.batches:
            gathered.append(_as(batch, rows.schema))
            size += gathered[-1].nbytes
            came += batch.num_rows
            if size > self._most_bytes:
                raise TooLargeForMemory(
                    f"The rows take more than {self._most_bytes} bytes of memory; "
                    "the engines duckdb and sqlite keep them on disk."
                )
            rows.watch()
        # The engine needs a batch to know the columns by.
        self._batches[directory.name] = gathered or [pa.RecordBatch.from_pylist([], schema=rows.schema)]
        return came

    def measure(self, directory: Path) -> tuple[int, int]:
        batches = self._batches[directory.name]
        return sum(batch.num_rows for batch in batches), sum(batch.nbytes for batch in batches)


class _Database:
    """A DuckDB file that is written: its own process's memory is limited, and it reaches nothing else."""

    def __init__(self, path: Path, settings: RuntimeSettings) -> None:
        import duckdb  # noqa: PLC0415 - loaded with the first keys

        self._connection = duckdb.connect(
            str(path),
            config={
                "enable_external_access": "false",
                "autoload_known_extensions": "false",
                "autoinstall_known_extensions": "false",
                "threads": "1",
                "memory_limit": f"{max(settings.pool_bytes // 2, 64 * 1024 * 1024)}B",
                "temp_directory": str(settings.spill_dir),
            },
        )

    def __enter__(self) -> Any:
        self._connection.execute("SET TimeZone = 'UTC'")
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


_opening = threading.Lock()


def _database(path: Path, settings: RuntimeSettings) -> _Database:
    with _opening:
        return _Database(path, settings)


def _groups(rows: Incoming) -> Iterator[pa.Table]:
    """The rows in pieces worth a row group; at least one, that the columns are known by."""
    waiting: list[pa.RecordBatch] = []
    size = count = 0
    is_first = True
    for batch in rows.batches:
        waiting.append(_as(batch, rows.schema))
        size += batch.nbytes
        count += batch.num_rows
        if size >= GROUP_BYTES or count >= GROUP_ROWS:
            yield pa.Table.from_batches(waiting)
            waiting, size, count, is_first = [], 0, 0, False
        else:
            rows.watch()
    if waiting or is_first:
        yield pa.Table.from_batches(waiting, schema=rows.schema)


def _as(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return batch if batch.schema.equals(schema) else batch.cast(schema)


def _listed(names: list[str]) -> str:
    return ", ".join(quote_name(name) for name in names)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # A file system without a second name for a file.
        shutil.copyfile(source, target)
