"""Calendar intervals as ISO 8601 durations: `P1Y2M3DT4H5.006S`."""

from decimal import Decimal
from typing import Any

import pyarrow as pa

_NANOS = Decimal(1_000_000_000)


def iso_intervals(array: pa.Array) -> pa.Array:
    return pa.array(
        [None if value is None else iso_interval(*value) for value in array.to_pylist()], pa.string()
    )


def iso_interval(months: int, days: int, nanoseconds: int) -> str:
    """Each part keeps its own sign, as months, days and time do not convert into one another."""
    years, months = _divide(months, 12)
    minutes, nanoseconds = _divide(nanoseconds, 60 * 10**9)
    hours, minutes = _divide(minutes, 60)
    seconds = (Decimal(nanoseconds) / _NANOS).normalize()
    date = _part(years, "Y") + _part(months, "M") + _part(days, "D")
    time = _part(hours, "H") + _part(minutes, "M") + _part(seconds, "S")
    if not date and not time:
        return "PT0S"
    return f"P{date}T{time}" if time else f"P{date}"


def _part(value: Any, letter: str) -> str:
    return (
        f"{value:f}{letter}" if isinstance(value, Decimal) and value else f"{value}{letter}" if value else ""
    )


def _divide(value: int, by: int) -> tuple[int, int]:
    """Quotient and rest towards zero, so that both have the value's sign."""
    quotient = abs(value) // by
    sign = -1 if value < 0 else 1
    return sign * quotient, sign * (abs(value) - quotient * by)
