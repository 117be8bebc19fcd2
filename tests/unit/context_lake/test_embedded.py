"""Columns that a dataset describes and has embedded: what is kept, shown again, refused, and told the runtime."""

from typing import Any

import pytest

from weir.context_lake.connectors.declared import Findings, Place
from weir.context_lake.embedded import Column, check_columns, embedded_of

EMBEDDED = [{"name": "body", "embeddings": [{"from": "minilm"}]}]


def checked(columns: Any, *, is_accelerated: bool = True) -> tuple[list[Column], dict[str, str]]:
    found = Findings([], [])
    kept = check_columns(columns, is_accelerated=is_accelerated, at=Place(), found=found)
    return kept, {error.path: error.code for error in found.errors}


def test_columns_are_kept_as_they_are_shown_and_the_runtime_is_told_which_to_embed() -> None:
    sent = [{"name": "title", "description": "What it is called"}, *EMBEDDED]
    kept, faults = checked(sent)
    assert faults == {}
    assert [column.shown() for column in kept] == sent
    assert checked([column.shown() for column in kept])[0] == kept
    assert embedded_of(kept) == [{"name": "body", "model": "minilm"}]


def test_what_asks_for_nothing_is_taken() -> None:
    embedding = {"from": "minilm", "chunking": {"enabled": False}, "row_id": None}
    kept, faults = checked(
        [{"name": "body", "embeddings": [embedding], "full_text_search": {"enabled": False}}]
    )
    assert faults == {} and embedded_of(kept) == [{"name": "body", "model": "minilm"}]
    assert checked([])[0] == [] and checked(None)[0] == []


def test_embeddings_need_rows_that_are_kept() -> None:
    assert checked(EMBEDDED, is_accelerated=False)[1] == {"columns[0].embeddings": "needs_acceleration"}
    assert checked([{"name": "body"}], is_accelerated=False)[1] == {}


@pytest.mark.parametrize(
    ("columns", "faults"),
    [
        ("body", {"columns": "invalid"}),
        ([1], {"columns[0]": "invalid"}),
        ([{}], {"columns[0].name": "required"}),
        ([{"name": "a", "more": 1}], {"columns[0].more": "unknown_field"}),
        ([{"name": ""}], {"columns[0].name": "invalid"}),
        ([{"name": "a\0"}], {"columns[0].name": "invalid"}),
        ([{"name": "a"}, {"name": "a"}], {"columns[1].name": "duplicate"}),
        ([{"name": "a", "description": "x" * 5000}], {"columns[0].description": "invalid"}),
        ([{"name": "a", "embeddings": [{}]}], {"columns[0].embeddings[0].from": "required"}),
        ([{"name": "a", "embeddings": [{"from": ""}]}], {"columns[0].embeddings[0].from": "invalid"}),
        (
            [{"name": "a", "embeddings": [{"from": "m"}, {"from": "n"}]}],
            {"columns[0].embeddings": "not_supported"},
        ),
        (
            [{"name": "a", "embeddings": [{"from": "m", "chunking": {"enabled": True}}]}],
            {"columns[0].embeddings[0].chunking": "not_available"},
        ),
        ([{"name": "a", "metadata": {"vectors": "filterable"}}], {"columns[0].metadata": "not_available"}),
        ([{"name": f"c{i}"} for i in range(1001)], {"columns": "limit_exceeded"}),
    ],
)
def test_a_column_that_cannot_be_is_refused_where_it_is_wrong(columns: Any, faults: dict[str, str]) -> None:
    assert checked(columns)[1] == faults
