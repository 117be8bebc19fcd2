"""Every Arrow type's JSON, to the letter of the platform's table."""

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from weir.lake_runtime.intervals import iso_interval
from weir.lake_runtime.results import Summary, distinct_names, encoder_for, slices

SUMMARY = Summary(rowCount=3, truncated=False, durationMs=1.5, coldStart=False)


def encoded(batch: pa.RecordBatch, form: str = "json", *, int64_as_text: bool = False) -> bytes:
    encoder = encoder_for(form, batch.schema, int64_as_text=int64_as_text)
    return encoder.head() + b"".join(encoder.rows(part) for part in slices(batch)) + encoder.tail(SUMMARY)


def values(array: pa.Array) -> str:
    """The three values as they stand in the JSON text, so that digits are compared and not floats."""
    text = encoded(pa.record_batch([array], names=["v"])).decode()
    json.loads(text)
    rows = text[len('{"rows":[') : text.index('],"schema"')]
    return " ".join(row[len('{"v":') : -1] for row in rows.replace("},{", "}\n{").splitlines())


MONTHS = pa.MonthDayNano
CASES: list[tuple[pa.Array, str]] = [
    (pa.array([True, False, None]), "true false null"),
    (pa.array([2**63 - 1, -(2**63), None], pa.int64()), "9223372036854775807 -9223372036854775808 null"),
    (pa.array([2**64 - 1, 0, None], pa.uint64()), "18446744073709551615 0 null"),
    (pa.array([1.5, float("nan"), float("-inf")]), "1.5 null null"),
    (pa.array([0.1, float("inf"), None], pa.float32()), "0.1 null null"),
    (
        pa.array(
            [Decimal("12345678901234567890.1234567890"), Decimal("-0.0000000001"), None],
            pa.decimal128(38, 10),
        ),
        "12345678901234567890.1234567890 -0.0000000001 null",
    ),
    (pa.array([Decimal("1.50"), Decimal("7"), None], pa.decimal256(60, 2)), "1.50 7.00 null"),
    (pa.array(['é"\\', "", None]), '"é\\"\\\\" "" null'),
    (pa.array(["a", "b", None], pa.string_view()), '"a" "b" null'),
    (pa.array(["a", "b", None], pa.large_string()), '"a" "b" null'),
    (pa.array([b"\x00\xff", b"", None]), '"00ff" "" null'),
    (pa.array([b"\x00\xff", b"ab", None], pa.binary(2)), '"00ff" "6162" null'),
    (pa.array([b"\x00\xff", b"", None], pa.binary_view()), '"00ff" "" null'),
    (pa.array([dt.date(2024, 1, 2), dt.date(1, 1, 1), None]), '"2024-01-02" "0001-01-01" null'),
    # The first and last day of four digits' years, and one beyond, which carries a sign.
    (pa.array([-719_528, 2_932_896, None], pa.int32()).cast(pa.date32()), '"0000-01-01" "9999-12-31" null'),
    (pa.array([2_932_897, 0, None], pa.int32()).cast(pa.date32()), '"+10000-01-01" "1970-01-01" null'),
    (pa.array([None, None, None], pa.date32()), "null null null"),
    (
        pa.array([dt.date(2024, 1, 2), dt.date(1969, 1, 1), None], pa.date64()),
        '"2024-01-02" "1969-01-01" null',
    ),
    (pa.array([0, -1, None], pa.timestamp("s")), '"1970-01-01T00:00:00" "1969-12-31T23:59:59" null'),
    (
        pa.array([1_704_164_645_123_456, 0, None], pa.timestamp("us")),
        '"2024-01-02T03:04:05.123456" "1970-01-01T00:00:00" null',
    ),
    (
        pa.array([1_704_164_645_123_456_789, 1, None], pa.timestamp("ns")),
        '"2024-01-02T03:04:05.123456789" "1970-01-01T00:00:00.000000001" null',
    ),
    (
        pa.array([1_704_164_645_123_456, 0, None], pa.timestamp("us", "UTC")),
        '"2024-01-02T03:04:05.123456Z" "1970-01-01T00:00:00Z" null',
    ),
    (
        pa.array([0, 1_704_164_645_000_000, None], pa.timestamp("us", "Europe/Berlin")),
        '"1970-01-01T01:00:00+01:00" "2024-01-02T04:04:05+01:00" null',
    ),
    (pa.array([3_661_000_001, 0, None], pa.time64("us")), '"01:01:01.000001" "00:00:00" null'),
    (pa.array([3_661, -5, None], pa.duration("s")), '"PT3661S" "-PT5S" null'),
    (
        pa.array([MONTHS([14, 3, 5_000_000_001]), MONTHS([-1, -3, -5]), None]),
        '"P1Y2M3DT5.000000001S" "P-1M-3DT-0.000000005S" null',
    ),
    (pa.array([[1, None], [], None]), "[1,null] [] null"),
    (pa.array([[1, None], [3, 4], None], pa.list_(pa.int64(), 2)), "[1,null] [3,4] null"),
    (pa.array([[1], [], None], pa.large_list(pa.int64())), "[1] [] null"),
    (
        pa.array([{"a": 1, "b": None}, {"a": None, "b": "x"}, None]),
        '{"a":1,"b":null} {"a":null,"b":"x"} null',
    ),
    (
        pa.array([[("k", 1), ("l", None)], [], None], pa.map_(pa.string(), pa.int64())),
        '{"k":1,"l":null} {} null',
    ),
    (pa.array([[(1, 5), (2, None)], [], None], pa.map_(pa.int64(), pa.int64())), '{"1":5,"2":null} {} null'),
    (
        pa.array([[(dt.date(2024, 1, 2), 5)], [], None], pa.map_(pa.date32(), pa.int64())),
        '{"2024-01-02":5} {} null',
    ),
    (pa.array([[(True, 5)], [], None], pa.map_(pa.bool_(), pa.int64())), '{"true":5} {} null'),
    (pa.array([[(b"\x01", 5)], [], None], pa.map_(pa.binary(), pa.int64())), '{"01":5} {} null'),
    (
        pa.array([[(1, 5)], [], None], pa.map_(pa.timestamp("ns"), pa.int64())),
        '{"1970-01-01T00:00:00.000000001":5} {} null',
    ),
    (pa.array(["a", "b", None]).dictionary_encode(), '"a" "b" null'),
    (pa.array([1, 0, None], pa.time64("ns")), '"00:00:00.000000001" "00:00:00" null'),
    (pa.array([1_000_000_001, 0, None], pa.duration("ns")), '"PT1.000000001S" "P0D" null'),
    (pa.nulls(3), "null null null"),
    (pa.array([[dt.date(2024, 1, 2)], [], None], pa.list_(pa.date64())), '["2024-01-02"] [] null'),
    (
        pa.array([[dt.date(2024, 1, 2)], [None], None], pa.list_(pa.date64(), 1)),
        '["2024-01-02"] [null] null',
    ),
    (
        pa.array([{"d": dt.date(2024, 1, 2)}, {"d": None}, None], pa.struct([("d", pa.date64())])),
        '{"d":"2024-01-02"} {"d":null} null',
    ),
]


@pytest.mark.parametrize(
    ("array", "expected"), CASES, ids=lambda v: str(v.type) if isinstance(v, pa.Array) else ""
)
def test_json_of(array: pa.Array, expected: str) -> None:
    assert values(array) == expected


@pytest.mark.parametrize(
    ("array", "expected"), CASES, ids=lambda v: str(v.type) if isinstance(v, pa.Array) else ""
)
def test_json_of_a_slice(array: pa.Array, expected: str) -> None:
    padded = pa.concat_arrays([array, array])[2:5]
    first, second, last = expected.rsplit(" ", 2) if expected.count(" ") == 2 else ("", "", "")
    if first:
        assert values(padded) == f"{last} {first} {second}"


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ((0, 0, 0), "PT0S"),
        ((12, 0, 0), "P1Y"),
        ((0, 1, 3_600 * 10**9), "P1DT1H"),
        ((0, 0, -90 * 10**9), "PT-1M-30S"),
        ((0, 0, 100 * 10**9), "PT1M40S"),
    ],
)
def test_an_interval_is_an_iso_duration(interval: tuple[int, int, int], text: str) -> None:
    assert iso_interval(*interval) == text


@pytest.mark.parametrize(
    ("names", "distinct"),
    [
        (["x", "x", "x"], ["x", "x_1", "x_2"]),
        (["x", "x", "x_1"], ["x", "x_2", "x_1"]),
        (["x_1", "x", "x", "x"], ["x_1", "x", "x_2", "x_3"]),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_columns_of_one_name_are_told_apart_without_taking_another_name(
    names: list[str], distinct: list[str]
) -> None:
    assert distinct_names(names) == distinct
    assert len(set(distinct)) == len(names)


def test_columns_of_one_name_keep_their_values_in_json() -> None:
    batch = pa.record_batch([pa.array([1]), pa.array([2])], names=["x", "x"])
    answer: dict[str, Any] = json.loads(encoded(batch))
    assert answer["rows"] == [{"x": 1, "x_1": 2}]
    assert [column["name"] for column in answer["schema"]] == ["x", "x_1"]


def test_an_empty_result_is_an_empty_list() -> None:
    answer = json.loads(encoded(pa.record_batch([pa.array([], pa.int64())], names=["x"])))
    assert answer["rows"] == []
    assert answer["schema"] == [{"name": "x", "type": "int64", "nullable": True}]


def test_wide_rows_are_sliced_by_their_bytes() -> None:
    batch = pa.record_batch([pa.array(["x" * 1_000_000] * 10)], names=["x"])
    assert [part.num_rows for part in slices(batch)] == [1] * 10


def test_ndjson_is_a_row_a_line() -> None:
    batch = pa.record_batch([pa.array([1, None])], names=["x"])
    assert encoded(batch, "ndjson") == b'{"x":1}\n{"x":null}\n'


def test_csv_has_a_header_and_nested_values_as_json() -> None:
    batch = pa.record_batch([pa.array(["a,b", None]), pa.array([[1], None])], names=["x", "y"])
    assert encoded(batch, "csv").decode().splitlines() == ["x,y", '"a,b",[1]', ","]


def test_an_arrow_stream_reads_back() -> None:
    batch = pa.record_batch([pa.array([1, 2]), pa.array(["a", None])], names=["x", "x"])
    table = pa.ipc.open_stream(encoded(batch, "arrow")).read_all()
    assert table.column_names == ["x", "x_1"]
    assert table.to_pydict() == {"x": [1, 2], "x_1": ["a", None]}


BIG = 2**63 - 1


@pytest.mark.parametrize(
    ("array", "shown"),
    [
        (pa.array([BIG], pa.int64()), str(BIG)),
        (pa.array([2**64 - 1], pa.uint64()), str(2**64 - 1)),
        (pa.array([7], pa.int32()), 7),
        (pa.array([1.5]), 1.5),
        (pa.array([None], pa.int64()), None),
        (pa.array([BIG], pa.int64()).dictionary_encode(), str(BIG)),
        (pa.array([[BIG, None]], pa.list_(pa.int64())), [str(BIG), None]),
        (pa.array([[BIG]], pa.large_list(pa.int64())), [str(BIG)]),
        (pa.array([[BIG]], pa.list_(pa.int64(), 1)), [str(BIG)]),
        (pa.array([{"a": BIG, "b": 1.5}]), {"a": str(BIG), "b": 1.5}),
        (pa.array([[("k", BIG)]], pa.map_(pa.string(), pa.int64())), {"k": str(BIG)}),
        (pa.array([[(BIG, BIG)]], pa.map_(pa.int64(), pa.int64())), {str(BIG): str(BIG)}),
    ],
    ids=lambda v: str(v.type) if isinstance(v, pa.Array) else "",
)
def test_integers_of_64_bits_are_texts_when_asked_for(array: pa.Array, shown: Any) -> None:
    batch = pa.record_batch([array], names=["v"])
    assert json.loads(encoded(batch, int64_as_text=True))["rows"] == [{"v": shown}]
    assert json.loads(encoded(batch, "ndjson", int64_as_text=True)) == {"v": shown}


def test_a_nested_text_may_hold_what_unicode_calls_the_end_of_a_line() -> None:
    batch = pa.record_batch([pa.array([["a\u2028b\u0085c"], ["d"]])], names=["x"])
    assert encoded(batch, "csv").decode() == 'x\n"[""a\u2028b\u0085c""]"\n"[""d""]"\n'
