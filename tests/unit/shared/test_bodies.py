"""A body is answered with every field that is wrong, not with the first one only."""

from typing import Annotated, Literal

import pytest
from msgspec import UNSET, Meta, Struct, UnsetType

from weir_shared.web.bodies import field_faults


class Part(Struct):
    sizes: list[int]


class Body(Struct, kw_only=True):
    name: str
    color: Literal["red", "blue"] | UnsetType | None = UNSET
    count: Annotated[int, Meta(ge=1)] = 1
    parts: list[Part] = []


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        (b'{"name": "x"}', []),
        (b'{"name": "x", "other": []}', []),
        (b"{}", ["name"]),
        (b'{"color": "green", "count": 0}', ["name", "color", "count"]),
        (b'{"name": 1, "parts": [{"sizes": [1]}, {"sizes": [1, "x"]}]}', ["name", "parts.1.sizes.1"]),
        (b'{"name": null, "count": 99999999999999999999999999}', ["name"]),
        (b"[]", []),
        (b"null", []),
        (b'{"name": ', []),
        (b"\xff", []),
        (b"[" * 100_000, []),
    ],
)
def test_every_fault_is_told_with_its_place(body: bytes, paths: list[str]) -> None:
    assert [fault.path for fault in field_faults(body, Body)] == paths


def test_a_word_that_is_none_of_those_allowed_is_answered_with_them() -> None:
    [fault] = field_faults(b'{"name": "x", "color": "green"}', Body)
    assert fault.message.endswith("it is one of red, blue")


def test_what_is_no_struct_has_no_fields() -> None:
    assert field_faults(b"{}", dict[str, int]) == []


@pytest.mark.parametrize(
    "rest", [b"[" * 4000, b"[" * 100_000, b'"\xff"', b'"x"', b'"x", "y": }', b'"\\ud8"}', b"1, 2]"]
)
def test_what_follows_a_wrong_field_may_be_anything(rest: bytes) -> None:
    assert field_faults(b'{"name": [7], "other": ' + rest, Body) == []
