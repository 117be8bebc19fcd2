"""A whole query of one server's tables as that server's SQL, where it means there what it means to the engine.

What is read is the engine's optimized plan as Substrait: names are positions there, and every conversion of a
type stands written out. Only what is known to have one meaning is rendered, over columns that are made the
engine's own first (text compares by bytes, numbers have their digits); for anything else there is no SQL, and
the engine works on scans. `docs/decisions/0014-whole-queries.md` says which is which and why.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from weir.lake_runtime.sources.conditions import Dialect, SourceColumn, condition_of

_JOINS = {1: "INNER JOIN", 3: "LEFT JOIN", 4: "RIGHT JOIN"}
_LEFT_SEMI = 5
Order = Literal["ASC NULLS FIRST", "ASC NULLS LAST", "DESC NULLS FIRST", "DESC NULLS LAST"]
_ORDERS: dict[int, Order] = {
    1: "ASC NULLS FIRST",
    2: "ASC NULLS LAST",
    3: "DESC NULLS FIRST",
    4: "DESC NULLS LAST",
}
_DISTINCT = 2
_MAX_DEPTH = 40
_MAX_SQL = 64 * 1024
_MAX_DIGITS = 38


class NotRendered(Exception):
    """Something has another meaning there, or none that is known."""


class WholeDialect(Protocol):
    """How a server is asked for whole queries."""

    @property
    def conditions(self) -> Dialect: ...

    def value(self, column: SourceColumn) -> SourceColumn:
        """A table's column as whole queries compute with it; `opaque` may be carried only."""
        ...

    def output(self, sql: str, type: pa.DataType) -> str:
        """A value as the connection brings it."""
        ...

    def aggregate(self, name: str, sql: str, type: pa.DataType, answer: pa.DataType) -> str | None: ...

    def ordered(self, sql: str, order: Order) -> str:
        """A key of ORDER BY."""
        ...

    @property
    def every_row(self) -> str:
        """The LIMIT that an OFFSET of its own needs; '' where it needs none."""
        ...


def standard_order(sql: str, order: Order) -> str:
    """How most of them write it."""
    return f"{sql} {order}"


class WholeQuery(Struct, frozen=True):
    sql: str
    types: list[pa.DataType]


class SourceTable(Struct, frozen=True):
    source: str
    columns: list[SourceColumn]


def render(plan: Any, find: Callable[[list[str]], SourceTable], dialect: WholeDialect) -> WholeQuery:
    """The plan's SQL. Raises `NotRendered`; `find` gives the table of a name, or raises it."""
    functions = {e.extension_function.function_anchor: e.extension_function.name for e in plan.extensions}
    (root,) = plan.relations
    select = _Renderer(find, dialect, functions).node(root.root.input, 0)
    outputs = [dialect.output(column.selected, column.type) for column in select.columns]
    sql = select.sql(outputs)
    if len(sql) > _MAX_SQL:
        raise NotRendered
    return WholeQuery(sql, [column.type for column in select.columns])


def computes(relation: Any) -> bool:
    """Whether a plan does more than pick rows and columns of one table."""
    match relation.WhichOneof("rel_type"):
        case "project" | "filter" as kind:
            return computes(getattr(relation, kind).input)
        case "read":
            return False
        case _:
            return True


def first_rows(relation: Any) -> tuple[list[int], int, int]:
    """The columns, the count and the offset of a plan that only picks some rows of one table, whichever.

    Raises `NotRendered` for any other.
    """
    kind = relation.WhichOneof("rel_type")
    if kind == "project":
        columns, count, skipped = first_rows(relation.project.input)
        columns = [*columns, *(columns[_field(e)] for e in relation.project.expressions)]
        return _picked(columns, relation.project.common), count, skipped
    if kind != "fetch" or not relation.fetch.HasField("count_expr"):
        raise NotRendered
    count = _whole_number(relation.fetch.count_expr)
    skipped = _whole_number(relation.fetch.offset_expr) if relation.fetch.HasField("offset_expr") else 0
    return _picked(_scanned(relation.fetch.input), relation.fetch.common), count, skipped


def _scanned(relation: Any) -> list[int]:
    """The columns of a plan that picks columns of one table."""
    match relation.WhichOneof("rel_type"):
        case "project":
            columns = _scanned(relation.project.input)
            columns = [*columns, *(columns[_field(e)] for e in relation.project.expressions)]
            return _picked(columns, relation.project.common)
        case "read" if not relation.read.HasField("filter") and not relation.read.HasField(
            "best_effort_filter"
        ):
            read = relation.read
            if read.HasField("projection"):
                return [item.field for item in read.projection.select.struct_items]
            return list(range(len(read.base_schema.names)))
        case _:
            raise NotRendered


def _picked(columns: list[int], common: Any) -> list[int]:
    is_emitting = common.WhichOneof("emit_kind") == "emit"
    return [columns[index] for index in common.emit.output_mapping] if is_emitting else columns


class _Select(Struct, kw_only=True):
    """One SELECT in the making; `columns` are expressions over what it reads from."""

    columns: list[SourceColumn]
    source: str
    conditions: list[str] = []
    groups: list[str] | None = None
    order: str = ""
    limit: str = ""

    def sql(self, outputs: list[str]) -> str:
        named = ", ".join(f"{sql} AS c{i}" for i, sql in enumerate(outputs)) or "1 AS none"
        where = f" WHERE {' AND '.join(self.conditions)}" if self.conditions else ""
        group = f" GROUP BY {', '.join(self.groups)}" if self.groups else ""
        return f"SELECT {named} FROM {self.source}{where}{group}{self.order}{self.limit}"  # noqa: S608

    def within(self, alias: str) -> "_Select":
        """A SELECT from this one."""
        inner = self.sql([column.selected for column in self.columns])
        columns = [_at(column, f"{alias}.c{i}") for i, column in enumerate(self.columns)]
        return _Select(columns=columns, source=f"({inner}) AS {alias}")


class _Renderer:
    def __init__(
        self,
        find: Callable[[list[str]], SourceTable],
        dialect: WholeDialect,
        functions: dict[int, str],
    ) -> None:
        self._find = find
        self._dialect = dialect
        self._functions = functions
        self._aliases = 0

    def node(self, relation: Any, depth: int) -> _Select:
        if depth > _MAX_DEPTH:
            raise NotRendered
        kind = str(relation.WhichOneof("rel_type"))
        rendered = {
            "read": self._read,
            "filter": self._filter,
            "project": self._project,
            "aggregate": self._aggregate,
            "sort": self._sort,
            "fetch": self._fetch,
            "join": self._join,
        }.get(kind)
        if rendered is None:
            raise NotRendered
        node = getattr(relation, kind)
        select = rendered(node, depth + 1)
        return _emitted(select, node.common) if node.common.WhichOneof("emit_kind") == "emit" else select

    def _read(self, read: Any, _: int) -> _Select:
        if read.WhichOneof("read_type") != "named_table" or read.HasField("best_effort_filter"):
            raise NotRendered
        table = self._find(list(read.named_table.names))
        columns = [self._dialect.value(column) for column in table.columns]
        select = _Select(columns=columns, source=table.source)
        if read.HasField("filter"):
            # Over the columns as they are, so that the server's indexes serve.
            select.conditions = [self._condition(read.filter, table.columns)]
        if read.HasField("projection"):
            kept = [item.field for item in read.projection.select.struct_items]
            select.columns = [columns[index] for index in kept]
        return select

    def _filter(self, node: Any, depth: int) -> _Select:
        select = self.node(node.input, depth)
        if select.groups is not None or select.limit:
            select = self._within(select)
        condition = self._condition(node.condition, select.columns)
        select.conditions = [*select.conditions, condition]
        return select

    def _project(self, node: Any, depth: int) -> _Select:
        """Columns are picked; what is computed from them is the engine's."""
        select = self.node(node.input, depth)
        picked = [select.columns[_field(expression)] for expression in node.expressions]
        select.columns = [*select.columns, *picked]
        return select

    def _aggregate(self, node: Any, depth: int) -> _Select:
        select = self.node(node.input, depth)
        if select.groups is not None or select.limit:
            select = self._within(select)
        if len(node.groupings) > 1:
            raise NotRendered
        keys = [select.columns[_field(expression)] for expression in node.grouping_expressions]
        if any(key.kind == "opaque" for key in keys):
            raise NotRendered
        measures = [self._measure(measure, select.columns) for measure in node.measures]
        select.columns, select.groups = [*keys, *measures], [key.selected for key in keys]
        select.order = ""
        return select

    def _measure(self, measure: Any, columns: list[SourceColumn]) -> SourceColumn:
        function = measure.measure
        name = self._functions.get(function.function_reference, "")
        if measure.HasField("filter") or function.sorts or len(function.arguments) > 1:
            raise NotRendered
        is_distinct = function.invocation == _DISTINCT
        argument = function.arguments[0].value if function.arguments else None
        if name == "count":
            if argument is None or _is_certain(argument):
                if is_distinct:
                    raise NotRendered
                return _column("count(*)", pa.int64())
            counted = select_of(argument, columns)
            distinct = "DISTINCT " if is_distinct else ""
            if is_distinct and counted.kind == "opaque":
                raise NotRendered
            return _column(f"count({distinct}{counted.selected})", pa.int64())
        if argument is None or is_distinct:
            raise NotRendered
        converted = None
        if argument.WhichOneof("rex_type") == "cast":
            converted = argument.cast.type.WhichOneof("kind")
            argument = argument.cast.input
        column = select_of(argument, columns)
        answer = _answer(name, column, converted)
        sql = None if answer is None else self._dialect.aggregate(name, column.selected, column.type, answer)
        if sql is None or answer is None:
            raise NotRendered
        return _column(sql, answer, kind="text" if pa.types.is_string(answer) else "plain")

    def _sort(self, node: Any, depth: int) -> _Select:
        select = self.node(node.input, depth)
        if select.limit:
            select = self._within(select)
        keys: list[str] = []
        for key in node.sorts:
            column, direction = select_of(key.expr, select.columns), _ORDERS.get(key.direction)
            if column.kind == "opaque" or direction is None:
                raise NotRendered
            keys.append(self._dialect.ordered(column.selected, direction))
        select.order = f" ORDER BY {', '.join(keys)}"
        return select

    def _fetch(self, node: Any, depth: int) -> _Select:
        select = self.node(node.input, depth)
        if select.limit:
            select = self._within(select)
        if node.HasField("count_expr"):
            select.limit = f" LIMIT {_whole_number(node.count_expr)}"
        if node.HasField("offset_expr") and (skipped := _whole_number(node.offset_expr)):
            select.limit = f"{select.limit or self._dialect.every_row} OFFSET {skipped}"
        return select

    def _join(self, node: Any, depth: int) -> _Select:
        if node.HasField("post_join_filter") or not node.HasField("expression"):
            raise NotRendered
        left = self._within(self.node(node.left, depth))
        right = self._within(self.node(node.right, depth))
        on = self._condition(node.expression, [*left.columns, *right.columns])
        if node.type == _LEFT_SEMI:
            exists = f"EXISTS (SELECT 1 FROM {right.source} WHERE {on})"  # noqa: S608
            return replace(left, conditions=[exists])
        if node.type not in _JOINS:
            raise NotRendered
        source = f"{left.source} {_JOINS[node.type]} {right.source} ON {on}"
        return _Select(columns=[*left.columns, *right.columns], source=source)

    def _within(self, select: _Select) -> _Select:
        self._aliases += 1
        return select.within(f"s{self._aliases}")

    def _condition(self, expression: Any, columns: list[SourceColumn]) -> str:
        condition = condition_of(expression, columns, self._dialect.conditions, self._functions)
        if condition is None or not condition.is_exact:
            raise NotRendered
        return condition.sql


def select_of(expression: Any, columns: list[SourceColumn]) -> SourceColumn:
    return columns[_field(expression)]


def _emitted(select: _Select, common: Any) -> _Select:
    select.columns = [select.columns[index] for index in common.emit.output_mapping]
    return select


def _answer(name: str, column: SourceColumn, converted: str | None) -> pa.DataType | None:
    """The engine's type of an aggregate; None when that is not known to be computed alike."""
    kind = column.type
    if column.kind == "opaque":
        return None
    if pa.types.is_integer(kind) and name in ("sum", "avg"):
        if name == "avg":
            return pa.float64() if converted == "fp64" else None
        return pa.int64() if converted in (None, "i64") else None
    if converted is not None:
        return None
    if pa.types.is_decimal128(kind) and name in ("sum", "avg"):
        return _widened(name, kind)
    return kind if name in ("min", "max") and not pa.types.is_boolean(kind) else None


def _widened(name: str, kind: pa.Decimal128Type) -> pa.DataType | None:
    digits, scale = (10, 0) if name == "sum" else (4, 4)
    # Where the engine's answer has no room left it cuts, or fails.
    has_room = kind.precision + digits <= _MAX_DIGITS
    return pa.decimal128(kind.precision + digits, kind.scale + scale) if has_room else None


def _column(sql: str, type: pa.DataType, kind: Any = "plain") -> SourceColumn:
    return SourceColumn(name=sql, type=type, selected=sql, compared=sql, kind=kind)


def _at(column: SourceColumn, sql: str) -> SourceColumn:
    return replace(column, name=sql, selected=sql, compared=sql, proper="")


def _field(expression: Any) -> int:
    """The position of a column that stands alone."""
    if expression.WhichOneof("rex_type") != "selection":
        raise NotRendered
    reference = expression.selection.direct_reference.struct_field
    if not expression.selection.HasField("direct_reference") or reference.HasField("child"):
        raise NotRendered
    return int(reference.field)


def _is_certain(expression: Any) -> bool:
    """Whether it is a value that is not null, as the engine writes `count(*)`."""
    is_literal = expression.WhichOneof("rex_type") == "literal"
    return is_literal and expression.literal.WhichOneof("literal_type") in ("i8", "i16", "i32", "i64")


def _whole_number(expression: Any) -> int:
    if expression.WhichOneof("rex_type") != "literal":
        raise NotRendered
    kind = expression.literal.WhichOneof("literal_type")
    if kind != "i64" or expression.literal.i64 < 0:
        raise NotRendered
    return int(expression.literal.i64)
