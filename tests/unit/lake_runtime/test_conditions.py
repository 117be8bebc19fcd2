"""Filters as SQL: what is said is never too strict, and no value leaves its quotes."""

import operator
import sqlite3
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.lake_runtime.sources import mysql, postgres, sqlite
from weir.lake_runtime.sources.conditions import SourceColumn, push
from weir.lake_runtime.sources.wording import quote_name

COLUMNS = [
    SourceColumn(name="a", type=pa.int64(), selected='"a"', compared='"a"'),
    SourceColumn(name="b", type=pa.string(), selected='"b"', compared='"b"', kind="text"),
    SourceColumn(name="u", type=pa.uint64(), selected='"u"', compared='"u"'),
    SourceColumn(name="o", type=pa.binary(), selected='"o"', compared='"o"', kind="opaque"),
    SourceColumn(name="i", type=pa.string(), selected='"i"::text', compared='"i"', kind="uuid"),
]
A, B, U, O, I = (pc.field(name) for name in "abuoi")  # noqa: E741


def said(expression: pc.Expression, dialect: Any = postgres.DIALECT) -> tuple[str, bool] | None:
    condition = push(expression, COLUMNS, dialect).condition
    return None if condition is None else (condition.sql, condition.is_exact)


def test_a_conjunction_leaves_out_what_cannot_be_said() -> None:
    assert said((A == 1) & pc.starts_with(B, "x")) == ('(("a" = 1))', False)


def test_a_disjunction_is_said_whole_or_not_at_all() -> None:
    assert said((A == 1) | pc.starts_with(B, "x")) is None
    assert said((A == 1) | (B == "x")) == ('(("a" = 1) OR ("b" = \'x\'))', True)


def test_nothing_inexact_is_negated() -> None:
    assert said(~(B == "x"), mysql.DIALECT) is None
    assert said(~(A == 1), mysql.DIALECT) == ('(NOT ("a" = 1))', True)


def test_a_value_stays_in_its_quotes() -> None:
    assert said(B == "' or 1=1 --") == ("(\"b\" = ''' or 1=1 --')", True)
    assert said(B == "\\' or 1=1 --", mysql.DIALECT) == (r"""("b" = '\\'' or 1=1 --')""", False)
    assert said(B == "nul\0") is None


def test_numbers_without_a_sign_and_opaque_columns() -> None:
    assert said(pa.scalar(2**64 - 1, pa.uint64()) == U) == ('("u" = 18446744073709551615)', True)
    assert said(O.is_null()) == ('("o" IS NULL)', True)
    assert said(O == b"x") is None


def test_a_uuid_is_compared_as_one_only_in_its_canonical_form() -> None:
    identity = "4f2c8b1e-0000-4000-8000-00000000002a"
    assert said(identity == I) == (f"(\"i\" = '{identity}')", True)
    assert said(identity.upper() == I) is None
    assert said(identity < I) == (f'("i"::text COLLATE "C" > \'{identity}\')', True)


def test_what_was_not_looked_into_reads_every_column() -> None:
    assert push(pc.starts_with(B, "x"), COLUMNS, postgres.DIALECT).columns is None
    assert push((A == 1) & (B == "x"), COLUMNS, postgres.DIALECT).columns == frozenset("ab")


ROWS = [(a, b) for a in (None, 1, 2) for b in (None, "", "x", "X", "y'", "z\\")]
leaves = st.one_of(
    st.builds(lambda v: v == A, st.integers(0, 3)),
    st.builds(lambda v: v != A, st.integers(0, 3)),
    st.builds(lambda v: v < A, st.integers(0, 3)),
    st.builds(lambda v: v == B, st.sampled_from(["", "x", "X", "y'", "z\\"])),
    st.builds(lambda v: v != B, st.sampled_from(["", "x", "X", "y'", "z\\"])),
    st.builds(lambda v: v >= B, st.sampled_from(["", "x", "X", "y'", "z\\"])),
    st.builds(B.isin, st.lists(st.sampled_from(["x", "X", "y'"]), min_size=1)),
    st.just(A.is_null()),
    st.just(~B.is_null()),
    st.just(pc.starts_with(B, "x")),
)
filters = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda x, y: x & y, inner, inner),
        st.builds(lambda x, y: x | y, inner, inner),
        st.builds(operator.invert, inner),
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(filters)
def test_a_source_finds_every_row_and_only_those_when_exact(expression: pc.Expression) -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    table = pa.table({"a": [a for a, _ in ROWS], "b": [b for _, b in ROWS]}, schema=schema)
    wanted = {(row["a"], row["b"]) for row in table.filter(expression).to_pylist()}
    condition = push(expression, COLUMNS[:2], sqlite.DIALECT).condition
    if condition is None:
        return
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("create table t (a integer, b text collate nocase)")
        connection.executemany("insert into t values (?, ?)", ROWS)
        found = set(connection.execute(f"select a, b from t where {condition.sql}").fetchall())
    assert found == wanted if condition.is_exact else found >= wanted


@given(st.text())
def test_a_name_is_one_name(name: str) -> None:
    quoted = quote_name(name)
    assert quoted[0] == quoted[-1] == '"'
    assert quoted[1:-1].replace('""', "").count('"') == 0
