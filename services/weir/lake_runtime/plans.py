"""What EXPLAIN may show: the plan, and of its files only their names."""

import re
from collections.abc import Iterable

import pyarrow as pa

from weir.lake_runtime.relations import Relation
from weir.lake_runtime.scrub import scrub

_FILE_GROUPS = re.compile(r"(?<=: \[\[).*?(?=\]\])", re.DOTALL)
_FOLDERS = re.compile(r"[^\[\],]*/")


def without_places(batch: pa.RecordBatch, relations: Iterable[Relation]) -> pa.RecordBatch:
    """The plan's rows without folders, store aliases and credentials."""
    read = list(relations)
    columns = [
        _shown(column, read) if pa.types.is_string(column.type) else column for column in batch.columns
    ]
    return pa.record_batch(columns, names=batch.schema.names)


def _shown(column: pa.Array, relations: list[Relation]) -> pa.Array:
    texts = [None if text is None else without_place(text, relations) for text in column.to_pylist()]
    return pa.array(texts, pa.string())


def without_place(plan: str, relations: list[Relation]) -> str:
    plan = _FILE_GROUPS.sub(lambda groups: _FOLDERS.sub("", groups[0]), plan)
    for relation in relations:
        if relation.location is not None and relation.location.url.startswith("file://"):
            folder = relation.location.url.removeprefix("file://").rstrip("/").rpartition("/")[0]
            plan = plan.replace(folder + "/", "").replace(folder.lstrip("/") + "/", "")
    return scrub(plan, *relations)
