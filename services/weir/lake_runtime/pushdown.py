"""Whether a statement is asked of its source as a whole, and the frame that reads the source's answer."""

from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
from datafusion import DataFrame, SessionContext
from datafusion.catalog import Table
from datafusion.substrait import Producer

from weir.lake_runtime.catalog import split_name
from weir.lake_runtime.relations import Relation
from weir.lake_runtime.sources.database import Asked, WholeAnswer, WholeDatabase
from weir.lake_runtime.sources.whole_query import (
    NotRendered,
    SourceTable,
    WholeQuery,
    computes,
    first_rows,
    render,
)
from weir.lake_runtime.sources.wording import quote_name


class Pushed:
    """A statement that its source answers whole."""

    def __init__(self, frame: DataFrame, asked: Asked, schema: pa.Schema) -> None:
        self.frame = frame
        self._asked = asked
        self._schema = schema

    def adapt(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows under the names that the statement gave them, which may be there twice."""
        return pa.RecordBatch.from_arrays(batch.columns, schema=self._schema)

    def cancel(self) -> None:
        """The source stops working on it; from any thread, at any time."""
        self._asked.cancel()


def push_whole(
    session: SessionContext, frame: DataFrame, limit: int | None, read: Iterable[Relation]
) -> Pushed | None:
    """The statement as its source is to answer it; None when it is the engine's to answer.

    `read` are the datasets that it reads; `limit` is how many rows are looked at besides what it says itself.
    """
    relations = list(read)
    database = _one_database(relations)
    if database is None:
        return None
    limited = frame if limit is None else frame.limit(limit)
    query = _rendered(session, frame, limited, relations, database)
    schema = frame.schema()
    if query is None or query.types != [_plain(field.type) for field in schema]:
        return None
    fields = [pa.field(f"c{i}", kind) for i, kind in enumerate(query.types)]
    asked = Asked()
    answer = WholeAnswer(database, query.sql, pa.schema(fields), asked)
    named = pa.schema([pa.field(field.name, kind) for field, kind in zip(schema, query.types, strict=True)])
    return Pushed(session.read_table(Table(answer)), asked, named)


def push_limit(
    session: SessionContext, frame: DataFrame, limit: int | None, read: Iterable[Relation]
) -> DataFrame | None:
    """The statement over no more rows than it looks at, when it only picks columns of one source; else None."""
    from substrait.plan_pb2 import Plan  # noqa: PLC0415 - loaded with the first database

    relations = list(read)
    source = relations[0].source if len(relations) == 1 else None
    if source is None:
        return None
    try:
        node = _parsed(Plan, session, frame if limit is None else frame.limit(limit)).relations[0].root.input
        found = first_rows(node)
    except NotRendered:
        return None
    except Exception:  # noqa: BLE001 - what has no Substrait is refused in the engine's bare exceptions
        return None
    names, count, skipped = found
    table = session.read_table(Table(source.limited(count + skipped)))
    schema = frame.schema()
    if [source.schema.names[index] for index in names] != schema.names or len({*names}) != len(names):
        return None
    return table.select(*(quote_name(name) for name in schema.names)).limit(count, skipped)


def _one_database(relations: list[Relation]) -> WholeDatabase | None:
    """The server that all of these lie on, if it answers whole queries."""
    found: dict[str, WholeDatabase] = {}
    for relation in relations:
        database = None if relation.source is None else relation.source.database
        if not isinstance(database, WholeDatabase) or not database.answers_whole:
            return None
        found.setdefault(database.server, database)
    return next(iter(found.values())) if len(found) == 1 else None


def _rendered(
    session: SessionContext,
    frame: DataFrame,
    limited: DataFrame,
    relations: list[Relation],
    database: WholeDatabase,
) -> WholeQuery | None:
    from substrait.plan_pb2 import Plan  # noqa: PLC0415 - loaded with the first database

    try:
        if not computes(_parsed(Plan, session, frame).relations[0].root.input):
            return None  # a scan does the same
        plan = _parsed(Plan, session, limited)
        return render(plan, _finder(relations), database.whole)
    except NotRendered:
        return None
    except Exception:  # noqa: BLE001 - what has no Substrait is refused in the engine's bare exceptions
        return None


def _parsed(kind: Any, session: SessionContext, frame: DataFrame) -> Any:
    message: Any = kind()
    plan = Producer.to_substrait_plan(frame.optimized_logical_plan(), session)
    message.ParseFromString(bytes(plan.encode()))
    return message


def _finder(relations: list[Relation]) -> Callable[[list[str]], SourceTable]:
    named = {split_name(relation.name): relation for relation in relations}

    def find(names: list[str]) -> SourceTable:
        schema, table = ("public", *names)[-2:]
        relation = named.get((schema, table)) or _folded(named, schema, table)
        if relation is None or relation.source is None:
            raise NotRendered
        return SourceTable(relation.source.source, relation.source.columns)

    return find


def _folded(named: dict[tuple[str, str], Relation], schema: str, table: str) -> Relation | None:
    """As the catalog finds a name that is not written as it is kept."""
    return next(
        (r for (s, t), r in named.items() if (schema, table) == (s.lower(), t.lower())),
        None,
    )


def _plain(kind: pa.DataType) -> pa.DataType:
    """How text is laid out in memory makes no difference."""
    is_text = pa.types.is_string_view(kind) or pa.types.is_large_string(kind)
    return pa.string() if is_text else kind
