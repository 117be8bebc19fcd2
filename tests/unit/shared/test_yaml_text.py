"""YAML in and out: what would hurt is refused before it is built, and what is written comes back."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir_shared.yaml_text import BadYaml, dump_yaml, load_yaml

HOSTILE = {
    "deep flow": b"[" * 30_000 + b"]" * 30_000,
    "deep maps": b"{a: " * 300_000,
    "deep block": b"\n".join(b" " * n + b"a:" for n in range(500)),
    "laughs": b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "a circle": b"&a [*a]",
    "an anchor alone": b"a: &x 1\n",
    "many values": b"[" + b"1," * 60_000 + b"1]",
    "a key twice": b"agents: []\nagents: []\n",
    "a key twice within": b"a:\n  b: 1\n  b: 2\n",
    "a key that is a list": b"? [a, b]\n: 1\n",
    "a python object": b"a: !!python/object/apply:os.system ['true']\n",
    "an unknown tag": b"a: !thing 1\n",
    "several documents": b"a: 1\n---\nb: 2\n",
    "not closed": b"agents: [unclosed",
    "a tab": b"a:\n\t- b\n",
    "no text": b"\xff\xfe\x00\xd8",
    "a control sign": b"a: \x07\n",
    "a merge": b"base: {a: 1}\nother:\n  <<: *base\n",
    "no date": b"a: 2026-13-45\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_hurt_is_refused_at_once(name: str) -> None:
    started = time.thread_time()
    with pytest.raises(BadYaml) as refusal:
        load_yaml(HOSTILE[name])
    assert str(refusal.value)
    assert time.thread_time() - started < 1


def test_a_fault_has_its_place() -> None:
    with pytest.raises(BadYaml, match=r"line 3, column 1"):
        load_yaml(b"a: 1\nb: 2\na: 3\n")


def test_an_empty_text_is_nothing() -> None:
    assert load_yaml(b"") is None
    assert load_yaml(b"# nothing\n") is None


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(categories=["L", "N", "P"]), max_size=12), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_what_is_written_comes_back(data: Any) -> None:
    assert load_yaml(dump_yaml(data).encode()) == data
