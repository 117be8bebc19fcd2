"""Days and instants written by kernels are what the encoder itself would have written, to the byte."""

import io
from typing import Any

import pyarrow as pa
import pytest
from arro3.io import write_csv, write_json
from hypothesis import given
from hypothesis import strategies as st

from weir.lake_runtime import moments

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
EDGES = [-62_167_219_201, -62_167_219_200, -1, 0, 951_782_400, 253_402_300_799, 253_402_300_800]


def written(array: pa.Array) -> tuple[bytes, bytes]:
    batch, json, csv = pa.record_batch([array], names=["v"]), io.BytesIO(), io.BytesIO()
    write_json(batch, json, explicit_nulls=True)
    write_csv(batch, csv, header=True)
    return json.getvalue(), csv.getvalue()


def filled(values: list[int | None], kind: Any) -> pa.Array:
    """So many rows that the kernels are used, and not from the beginning of their buffers."""
    rows = (values * (moments.FEWEST_ROWS // len(values) + 2))[: moments.FEWEST_ROWS + 1]
    whole = pa.array([None, *rows], pa.int32() if kind == pa.date32() else pa.int64()).cast(kind)
    return whole.slice(1)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("zone", [None, "UTC", "+00:00", "Europe/Berlin"])
@given(
    seconds=st.lists(
        st.none() | st.integers(-9_000_000_000, 9_000_000_000) | st.sampled_from(EDGES), min_size=1
    ),
    part=st.sampled_from([0, 0, 1]),
)
def test_instants_are_written_as_the_encoder_writes_them(
    unit: str, zone: str | None, seconds: list[int | None], part: int
) -> None:
    kind = pa.timestamp(unit, zone)
    values = [None if at is None else at * UNITS[unit] + part for at in seconds]
    if any(value is not None and abs(value) >= 2**63 for value in values):
        return
    array = filled(values, kind)
    treated = moments.as_text(array) if moments.has_quicker_text(kind) else array
    assert written(treated) == written(array)


@given(days=st.lists(st.none() | st.integers(-800_000, 3_000_000), min_size=1))
def test_days_are_written_as_the_encoder_writes_them(days: list[int | None]) -> None:
    array = filled(days, pa.date32())
    assert written(moments.as_text(array)) == written(array)


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_whole_seconds_of_years_of_four_digits_are_text_already(zone: str | None) -> None:
    array = filled([EDGES[1], EDGES[5], None], pa.timestamp("s", zone))
    assert pa.types.is_string(moments.as_text(array).type)


def test_few_rows_are_left_to_the_encoder() -> None:
    array = pa.array([0], pa.timestamp("s"))
    assert moments.as_text(array) is array
