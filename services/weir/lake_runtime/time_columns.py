"""The time column of a relation: what is newest, and conditions on it that a source can be asked."""

from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

import pyarrow as pa
from datafusion import DataFrame, Expr, col, functions, literal

from weir.lake_runtime.faults import Fault

_PER_SECOND = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}


class NoTimeColumn(Fault):
    status, code = 400, "time_column"


class TimeColumn:
    """One column of a schema, read as its format says: a timestamp, a date, a number, or a text."""

    def __init__(self, schema: pa.Schema, name: str, time_format: str) -> None:
        if name not in schema.names:
            raise NoTimeColumn(f"The time column {name!r} is not among the columns.")
        kind: pa.DataType = schema.field(name).type
        quoted = name.replace('"', '""')
        self._moment: Expr = col(f'"{quoted}"')
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            # Without a zone of its own: a text that names one is turned into UTC.
            self._moment, kind = functions.to_timestamp_nanos(self._moment), pa.timestamp("ns")
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if not (is_number or pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            raise NoTimeColumn(f"The time column {name!r} is {kind}, which tells no time.")
        self._type = kind
        self._number_per_second = 1000 if time_format == "unix_millis" else 1

    def newest(self, frame: DataFrame) -> pa.Scalar | None:
        """The latest moment among the rows; None when there are no rows."""
        batches = frame.aggregate([], [functions.max(self._moment).alias("newest")]).collect()
        found = pa.Table.from_batches(batches).column("newest")[0]
        return found.cast(self._type) if found.is_valid else None

    def after(self, moment: pa.Scalar, *, overlap_seconds: float = 0) -> Expr:
        """Rows later than this; with an overlap those from so long before it on."""
        # Files may tell it in another unit than the source does.
        moment = moment.cast(self._type, safe=False)
        if not overlap_seconds:
            return self._moment > literal(moment)
        return self._moment >= literal(self._earlier(moment, overlap_seconds))

    def within(self, seconds: float) -> Expr:
        """Rows of the last so many seconds."""
        return self._moment >= literal(self._scalar(datetime.now(UTC) - timedelta(seconds=seconds)))

    def _scalar(self, moment: datetime) -> pa.Scalar:
        if pa.types.is_date(self._type):
            return pa.scalar(moment.date(), self._type)
        if pa.types.is_timestamp(self._type):
            exact = pa.scalar(int(moment.timestamp() * 1_000_000), pa.int64())
            return exact.cast(pa.timestamp("us", self._type.tz)).cast(self._type, safe=False)
        return self._number(moment.timestamp() * self._number_per_second)

    def _earlier(self, moment: pa.Scalar, seconds: float) -> pa.Scalar:
        value: Any = moment
        if pa.types.is_date(self._type):
            return pa.scalar(value.as_py() - timedelta(days=ceil(seconds / 86_400)), self._type)
        if pa.types.is_timestamp(self._type):
            earlier = value.value - round(seconds * _PER_SECOND[self._type.unit])
            return pa.scalar(earlier, pa.int64()).cast(self._type)
        return self._number(value.as_py() - seconds * self._number_per_second)

    def _number(self, value: float) -> pa.Scalar:
        return pa.scalar(int(value) if pa.types.is_integer(self._type) else value, self._type)
