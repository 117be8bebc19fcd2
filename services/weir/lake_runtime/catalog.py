"""How a name in a statement finds its table, and which names a statement may see.

The engine asks these providers for every table reference while it plans (sub-queries and CTE bodies
too), in the thread that plans: the statement's `Scope` is a context variable of that thread.
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import pyarrow as pa
import pyarrow.dataset as pads
from datafusion.catalog import CatalogProvider, SchemaProvider, Table

from weir.lake_runtime.kept_tables import KeptTables
from weir.lake_runtime.relations import Opened, Relation, RelationOpening
from weir.lake_runtime.session import CATALOG, SCHEMA
from weir.lake_runtime.task_history import TaskHistory
from weir.lake_runtime.wire import View

RUNTIME_SCHEMA, TASK_HISTORY = "runtime", "task_history"


class Tables:
    """The tables of a lake as they are at one moment: the mapping is replaced as a whole, never written to."""

    def __init__(self) -> None:
        self.current: Mapping[str, Opened] = {}


class Scope:
    """What one statement may see, and what it has been seen to name."""

    def __init__(
        self,
        *,
        allowed: frozenset[str] | None = None,
        before: str | None = None,
        wants_columns: bool = False,
        asked_by: str | None = None,
        pinned: Mapping[str, Opened] | None = None,
    ) -> None:
        self.allowed = allowed
        """Names in lower case; None: everything."""
        self.before = before
        """A view sees what is defined before it: cycles cannot be written."""
        self.wants_columns = wants_columns
        self.asked_by = asked_by
        """The only subject whose tasks are shown; None: the whole tenant's."""
        self.looks_for_rows = False
        """Whether the reader for a few rows is the better one."""
        self.kept: KeptTables | None = None
        """Where a copy of the only table it names may be."""
        self.copies: list[Table | None] = []
        """What was found there for each table it names."""
        self.is_live = False
        """Whether it reads the runtime's own state, which changes by itself."""
        self.touched: dict[str, Relation] = {}
        self.pinned = pinned
        """The tables that all of it reads, whatever takes their place meanwhile."""
        self.vectors: dict[tuple[str, str], bytes] = {}
        """Of texts that were embedded for this statement, by model and text."""
        self.wanted_texts: dict[str, set[str]] = {}
        """By model, what must be embedded before it can be planned."""

    def opened(self, relation: Relation, tables: Tables) -> Opened:
        """The relation as it was at the moment of the first look. Raises as `require_table`."""
        self.touched[relation.name] = relation
        if self.pinned is None:
            self.pinned = tables.current
        opened = self.pinned.get(relation.name)
        if opened is None:
            relation.require_table()
            # It came after the look: look again.
            raise RelationOpening(relation)
        return opened

    def visible(self, relations: Mapping[str, Relation]) -> Iterator[Relation]:
        for name, relation in relations.items():
            if name == self.before:
                return
            if self.allowed is None or name.lower() in self.allowed:
                yield relation


_scope: ContextVar[Scope] = ContextVar("scope")


@contextmanager
def planning(scope: Scope) -> Generator[None]:
    """Everything this thread plans inside the block sees this scope."""
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


def current_scope() -> Scope | None:
    """The scope of the statement that this thread plans; None in the engine's own threads."""
    return _scope.get(None)


class LakeCatalog(CatalogProvider):
    """The one catalog of a session; `relations` are datasets first, then views in dependency order."""

    def __init__(
        self, relations: Mapping[str, Relation], history: TaskHistory, tables: Tables | None = None
    ) -> None:
        """Without `tables` the relations' own are read, which must then stay as they are."""
        self._relations = relations
        self._history = history
        self._tables = tables

    def schema_names(self) -> set[str]:
        return {SCHEMA, "information_schema", RUNTIME_SCHEMA} | {
            split_name(name)[0] for name in self._relations
        }

    def schema(self, name: str) -> SchemaProvider | None:  # type: ignore[override]
        if name == "information_schema":
            return _InformationSchema(self._relations)
        if name == RUNTIME_SCHEMA:
            return _RuntimeSchema(self._history)
        if name == SCHEMA or any(_same(name, split_name(n)[0]) for n in self._relations):
            return _LakeSchema(name, self._relations, self._tables)
        return None


class _LakeSchema(SchemaProvider):
    def __init__(self, schema: str, relations: Mapping[str, Relation], tables: Tables | None) -> None:
        self._schema = schema
        self._relations = relations
        self._tables = tables

    @property
    def table_names(self) -> list[str]:  # type: ignore[override]
        # The engine reads this as an attribute, whatever its documentation says.
        return [split_name(r.name)[1] for r in self._mine()]

    def table(self, name: str) -> Table | None:
        relation = self._find(name)
        if relation is None:
            return None
        scope = _scope.get()
        if self._tables is not None:
            opened = scope.opened(relation, self._tables)
        else:
            scope.touched[relation.name] = relation
            opened = Opened(relation.require_table())
        if scope.kept is not None:
            # A copy is of what the relation is now.
            is_now = opened.table is relation.table
            scope.copies.append(copy := scope.kept.find(relation) if is_now else None)
            if copy is not None:
                return copy
        return opened.selective if scope.looks_for_rows and opened.selective is not None else opened.table

    def table_exist(self, name: str) -> bool:
        return self._find(name) is not None

    def _find(self, name: str) -> Relation | None:
        """The exact name first; then any letter case, as an unquoted name arrives in lower case."""
        mine = {split_name(r.name)[1]: r for r in self._mine()}
        if name in mine:
            return mine[name]
        return next((relation for own, relation in mine.items() if _same(name, own)), None)

    def _mine(self) -> Iterator[Relation]:
        for relation in _scope.get().visible(self._relations):
            if _same(self._schema, split_name(relation.name)[0]):
                yield relation


class _InformationSchema(SchemaProvider):
    """Tables, columns, views and schemas of the lake; the engine's own would show its settings."""

    def __init__(self, relations: Mapping[str, Relation]) -> None:
        self._relations = relations

    @property
    def table_names(self) -> list[str]:  # type: ignore[override]
        return sorted(_INFORMATION)

    def table_exist(self, name: str) -> bool:
        return name in _INFORMATION

    def table(self, name: str) -> Table | None:
        describe = _INFORMATION.get(name)
        if describe is None:
            return None
        scope = _scope.get()
        scope.is_live = True
        relations = list(scope.visible(self._relations))
        if name == "columns" and scope.wants_columns:
            # SHOW TABLES resolves this table too, and need not wait for every source.
            _require_settled(relations)
        return Table(pads.dataset(describe(relations)))


class _RuntimeSchema(SchemaProvider):
    """What the runtime tells of itself. Views cannot read it: a view is its plan, and this a moment's state."""

    def __init__(self, history: TaskHistory) -> None:
        self._history = history

    @property
    def table_names(self) -> list[str]:  # type: ignore[override]
        return [TASK_HISTORY]

    def table_exist(self, name: str) -> bool:
        return name == TASK_HISTORY and _scope.get().before is None

    def table(self, name: str) -> Table | None:
        if not self.table_exist(name):
            return None
        scope = _scope.get()
        scope.is_live = True
        return Table(pads.dataset(self._history.table(subject=scope.asked_by)))


def split_name(name: str) -> tuple[str, str]:
    """`sales.orders` is table `orders` of schema `sales`; any other name is in `public`."""
    schema, dot, table = name.partition(".")
    return (schema, table) if dot and schema and table and "." not in table else (SCHEMA, name)


def _same(asked: str, own: str) -> bool:
    return asked == own or asked == own.lower()


def _require_settled(relations: list[Relation]) -> None:
    for relation in relations:
        if relation.status == "initializing":
            relation.require_table()


def _tables(relations: list[Relation]) -> pa.Table:
    rows = [(CATALOG, *split_name(r.name), "VIEW" if r.is_view else "BASE TABLE") for r in relations]
    return _text_table(("table_catalog", "table_schema", "table_name", "table_type"), rows)


def _views(relations: list[Relation]) -> pa.Table:
    rows = [
        (CATALOG, *split_name(r.name), r.definition.sql) for r in relations if isinstance(r.definition, View)
    ]
    return _text_table(("table_catalog", "table_schema", "table_name", "definition"), rows)


def _schemata(relations: list[Relation]) -> pa.Table:
    names = sorted({SCHEMA, *(split_name(r.name)[0] for r in relations)})
    return _text_table(("catalog_name", "schema_name"), [(CATALOG, name) for name in names])


def _columns(relations: list[Relation]) -> pa.Table:
    names = ("table_catalog", "table_schema", "table_name", "column_name", "data_type", "is_nullable")
    found = [
        (index, (CATALOG, *split_name(r.name), c.name, c.type, "YES" if c.nullable else "NO"))
        for r in relations
        for index, c in enumerate(r.columns() or ())
    ]
    table = _text_table(names, [row for _, row in found])
    return table.append_column("ordinal_position", pa.array([index for index, _ in found], pa.uint64()))


def _text_table(names: tuple[str, ...], rows: list[tuple[str, ...]]) -> pa.Table:
    columns = [pa.array([row[i] for row in rows], pa.string()) for i in range(len(names))]
    return pa.table(dict(zip(names, columns, strict=True)))


_INFORMATION = {"tables": _tables, "columns": _columns, "views": _views, "schemata": _schemata}
