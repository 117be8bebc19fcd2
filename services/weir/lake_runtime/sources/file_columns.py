"""Columns that tell of the file that a row is in: `_location`, `_last_modified`, `_size`.

They are computed from the engine's own name of the file while it reads, so a statement that does not name
them is planned without them. Size and age are looked up when rows are read: once a file and second in a
store, every time on this machine.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from datafusion import SessionContext, udf
from datafusion.catalog import Table

from weir.lake_runtime.faults import SourceError
from weir.lake_runtime.sources.listing import Location
from weir.lake_runtime.sources.wording import quote_name, quote_text
from weir.lake_runtime.wire import Dataset

MODIFIED = pa.timestamp("us", "UTC")
_TYPES = {"_last_modified": MODIFIED, "_size": pa.uint64()}
_FRESH_SECONDS = 1.0

Facts = tuple[datetime, int]


def with_file_columns(
    session: SessionContext, table: Table, name: str, dataset: Dataset, location: Location
) -> Table:
    """The session's table `name` with the columns that the dataset asks for and its files do not have."""
    wanted = dataset.options.get("file_columns") or []
    missing = [column for column in wanted if column not in table.schema.names]
    if not missing:
        return table
    facts = _facts_of(dataset, location)
    columns: list[str] = []
    for column in missing:
        if column == "_location":
            columns.append(f"{_place(dataset, location)} AS {quote_name(column)}")
            continue
        session.register_udf(_function(column, facts))
        columns.append(f"{column.strip('_')}_of_file({_KEY}) AS {quote_name(column)}")
    return session.sql(f"SELECT *, {', '.join(columns)} FROM {name}").into_view()  # noqa: S608 - quoted


_KEY = "arrow_cast(input_file_name(), 'Utf8')"


def _place(dataset: Dataset, location: Location) -> str:
    """Where the file is, in the words of the dataset's `from`."""
    is_url = dataset.connector in ("http", "https")
    shown = location.shown if is_url or not dataset.from_ else dataset.from_
    if not location.is_folder:
        return f"arrow_cast({quote_text(shown)}, 'Utf8')"
    above = len(_prefix(location))
    return f"arrow_cast(concat({quote_text(shown.rstrip('/') + '/')}, substr({_KEY}, {above + 1})), 'Utf8')"


def _prefix(location: Location) -> str:
    return unquote(urlsplit(location.url).path).lstrip("/")


def _function(column: str, facts: Callable[[str], Facts]) -> Any:
    at = 0 if column == "_last_modified" else 1

    def compute(keys: pa.Array) -> pa.Array:
        encoded = keys.dictionary_encode()
        values = [None if key is None else facts(key)[at] for key in encoded.dictionary.to_pylist()]
        return pa.array(values, _TYPES[column]).take(encoded.indices)

    return udf(compute, [pa.string()], _TYPES[column], "stable", name=f"{column.strip('_')}_of_file")


def _facts_of(dataset: Dataset, location: Location) -> Callable[[str], Facts]:
    if location.look is None:
        return _stat
    store, known = location.look(), dict[str, tuple[float, Facts]]()

    def look(key: str) -> Facts:
        import obstore  # noqa: PLC0415 - loaded with the first dataset that needs it

        at, facts = known.get(key, (0.0, None))
        now = time.monotonic()
        if facts is None or now - at > _FRESH_SECONDS:
            try:
                found = obstore.head(store, key)
            except Exception as error:  # noqa: BLE001 - each store has its own
                raise SourceError(dataset.name, f"the file {key} could not be looked at: {error}") from None
            facts = (found["last_modified"], found["size"])
            known[key] = (now, facts)
        return facts

    return look


def _stat(key: str) -> Facts:
    found = Path("/" + key).stat()
    return datetime.fromtimestamp(found.st_mtime_ns // 1000 / 1e6, UTC), found.st_size
