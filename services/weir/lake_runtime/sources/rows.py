"""Rows of a driver that knows no Arrow, as batches."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from weir.lake_runtime.faults import SourceError

BATCH_ROWS = 8_192

ToArray = Callable[[Sequence[Any], pa.DataType], pa.Array]


def batches(
    dataset: str, fetch: Callable[[int], Sequence[Sequence[Any]]], schema: pa.Schema, to_array: ToArray
) -> Iterator[pa.RecordBatch]:
    """Batches of what `fetch(count)` returns, until it returns nothing. Columns go by position."""
    while rows := fetch(BATCH_ROWS):
        arrays: list[pa.Array] = []
        for values, field in zip(zip(*rows, strict=True), schema, strict=False):
            try:
                arrays.append(to_array(values, field.type))
            except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
                reason = f"column {field.name!r} holds a value that is no {field.type}: {error}"
                raise SourceError(dataset, reason) from None
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)
