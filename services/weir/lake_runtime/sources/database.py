"""A table of a database as the engine scans it: columns and filter go to the source as SQL.

The engine takes a `pyarrow.dataset.Dataset`: it asks for fragments with a filter, and each fragment's
scanner for batches of some columns. There is one fragment, and it is one statement. Batches are pulled:
a query that has enough lets the iterator go, and the source's cursor is closed. `count(*)` is asked of
the source.
"""

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from msgspec import Struct
from msgspec.structs import replace

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.sources.conditions import Dialect, Pushed, SourceColumn, push
from weir.lake_runtime.sources.whole_query import WholeDialect
from weir.lake_runtime.wire import Dataset

_COUNTED_ROWS = 1_000_000


class Query(Struct, frozen=True, kw_only=True):
    """What is asked of a source: some columns of a table, or how many rows it has."""

    source: str
    columns: list[SourceColumn] = []
    condition: str = ""
    counts: bool = False
    limit: int | None = None
    """How many rows are enough, whichever they are; None: all of them."""

    @property
    def sql(self) -> str:
        selected = "count(*)" if self.counts else ", ".join(c.selected for c in self.columns)
        where = f" WHERE {self.condition}" if self.condition else ""
        limit = "" if self.limit is None else f" LIMIT {self.limit}"
        return f"SELECT {selected} FROM {self.source}{where}{limit}"  # noqa: S608 - names and values are quoted


class Database(Protocol):
    """Who is asked. `stream` yields batches under the schema, whose fields are those of the query."""

    @property
    def dataset(self) -> str: ...

    @property
    def dialect(self) -> Dialect: ...

    def stream(self, query: Query, schema: pa.Schema) -> Generator[pa.RecordBatch]: ...


class Asked:
    """A statement that a source works on, which another thread may call off."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop: Callable[[], None] | None = None
        self._is_cancelled = False

    @property
    def is_cancelled(self) -> bool:
        return self._is_cancelled

    def begins(self, stop: Callable[[], None]) -> None:
        """The source has it; `stop` ends the work. Raises `SourceError` when it was called off before."""
        with self._lock:
            if self._is_cancelled:
                raise SourceError("", "the statement was called off")
            self._stop = stop

    def ends(self) -> None:
        with self._lock:
            self._stop = None

    def cancel(self) -> None:
        with self._lock:
            self._is_cancelled = True
            if self._stop is not None:
                # A statement that has just ended cannot be stopped, and need not.
                with contextlib.suppress(Exception):
                    self._stop()


def answers_whole(dataset: Dataset) -> bool:
    """Whether the dataset's owner lets whole queries be asked of its source."""
    return str(dataset.options.get("query_federation") or "enabled") == "enabled"


@runtime_checkable
class WholeDatabase(Protocol):
    """A source that is asked for whole queries, too."""

    @property
    def dataset(self) -> str: ...

    @property
    def server(self) -> str:
        """The same for two tables exactly if one statement may read both, as the same user."""
        ...

    @property
    def answers_whole(self) -> bool: ...

    @property
    def whole(self) -> WholeDialect: ...

    def ask(self, sql: str, schema: pa.Schema, asked: Asked) -> Generator[pa.RecordBatch]: ...


class WholeAnswer(pads.Dataset):  # pyright: ignore[reportUntypedBaseClass]
    """What a source answers to one statement, read once."""

    def __init__(self, database: WholeDatabase, sql: str, schema: pa.Schema, asked: Asked) -> None:
        self._database = database
        self._sql = sql
        self._schema = schema
        self._asked = asked
        self.projected_schema = schema

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def get_fragments(self, filter: Any = None) -> "Iterator[WholeAnswer]":  # type: ignore[override]
        return iter((self,))

    def scanner(self, *_: Any, **__: Any) -> "WholeAnswer":  # type: ignore[override]
        """Every column in its order: the frame over it does nothing else."""
        return self

    def to_batches(self) -> Generator[pa.RecordBatch]:  # type: ignore[override]
        try:
            with contextlib.closing(self._database.ask(self._sql, self._schema, self._asked)) as batches:
                yield from batches
        except SourceError:
            raise
        except Exception as error:  # noqa: BLE001 - every driver has its own; the engine takes any
            raise SourceError(self._database.dataset, str(error)) from None


class DatabaseTable(pads.Dataset):  # pyright: ignore[reportUntypedBaseClass]
    """One table or view of a source; `source` is its quoted name."""

    def __init__(self, database: Database, source: str, columns: list[SourceColumn]) -> None:
        # The parent's constructor refuses to be called; it holds nothing of ours.
        self.database = database
        self.source = source
        self.columns = columns
        self.limit: int | None = None
        self.whole: DatabaseTable | None = None
        """Whose first rows these are: it must not go, and close the source, while they are read."""
        self._schema = pa.schema([pa.field(c.name, c.type, c.is_nullable) for c in columns])

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def limited(self, limit: int) -> "DatabaseTable":
        """The first rows that come; for a statement that looks at no others."""
        table = DatabaseTable(self.database, self.source, self.columns)
        table.limit, table.whole = limit, self
        return table

    def scanner(self, columns: Any = None, filter: Any = None, **_: Any) -> "Scan":  # type: ignore[override]
        return Scan(self, columns, filter)

    def get_fragments(self, filter: Any = None) -> "Iterator[_Fragment]":  # type: ignore[override]
        return iter((_Fragment(self),))


class _Fragment:
    def __init__(self, table: DatabaseTable) -> None:
        self._table = table

    def scanner(
        self,
        schema: Any = None,
        columns: Any = None,
        filter: Any = None,
        **_: Any,
    ) -> "Scan":
        return Scan(self._table, columns, filter)


class Scan:
    """One read of a table."""

    def __init__(
        self, table: DatabaseTable, columns: Iterable[str] | None, condition: pc.Expression | None
    ) -> None:
        self._table = table
        self._wanted = list(table.schema.names if columns is None else columns)
        self._filter = condition
        self.projected_schema = pa.schema([table.schema.field(name) for name in self._wanted])

    def to_batches(self) -> Generator[pa.RecordBatch]:
        table, pushed = self._table, self._pushed()
        condition = pushed.condition
        is_exact = self._filter is None or (condition is not None and condition.is_exact)
        limit = table.limit if is_exact else None
        query = Query(source=table.source, condition="" if condition is None else condition.sql, limit=limit)
        try:
            if not self._wanted and is_exact:
                yield from self._count(replace(query, counts=True))
                return
            read = self._wanted if is_exact else self._with_filtered(pushed)
            by_name = {column.name: column for column in table.columns}
            query = replace(query, columns=[by_name[name] for name in read])
            schema = pa.schema([table.schema.field(name) for name in read])
            # Closed by hand: a suspended generator that is merely dropped closes its children late.
            with contextlib.closing(table.database.stream(query, schema)) as batches:
                for batch in batches:
                    yield batch if is_exact else self._filtered(batch)
        except SourceError:
            raise
        except Exception as error:  # noqa: BLE001 - every driver has its own; the engine takes any
            raise SourceError(table.database.dataset, str(error)) from None

    def _pushed(self) -> Pushed:
        if self._filter is None:
            return Pushed(None, frozenset())
        return push(self._filter, self._table.columns, self._table.database.dialect)

    def _with_filtered(self, pushed: Pushed) -> list[str]:
        """The wanted columns and those that the filter reads here."""
        if pushed.columns is None:
            return self._table.schema.names
        return self._wanted + sorted(pushed.columns.difference(self._wanted))

    def _filtered(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        kept = pa.Table.from_batches([batch]).filter(self._filter).select(self._wanted)
        if not self._wanted:
            return _rows_only(kept.num_rows)
        arrays = [column.combine_chunks() for column in kept.columns]
        flat = [a.combine_chunks() if isinstance(a, pa.ChunkedArray) else a for a in arrays]
        return pa.RecordBatch.from_arrays(flat, schema=self.projected_schema)

    def _count(self, query: Query) -> Iterator[pa.RecordBatch]:
        answer = pa.schema([("n", pa.int64())])
        with contextlib.closing(self._table.database.stream(query, answer)) as batches:
            rows = sum(batch.column(0)[0].as_py() for batch in batches if batch.num_rows)
        while rows > 0:
            yield _rows_only(min(rows, _COUNTED_ROWS))
            rows -= _COUNTED_ROWS


def _rows_only(rows: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_struct_array(pa.array([{}] * min(rows, 1), pa.struct([])).take(_zeros(rows)))


def _zeros(rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(0, pa.int32()), rows)
