"""Arguments that are no JSON: read where there is one meaning, left alone where one had to guess."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.agent_engine.models.base import ToolCall
from weir.agent_engine.tools.arguments import MOST_CHARACTERS, arguments_of, mended

READ: dict[str, tuple[str, dict[str, Any]]] = {
    "tags": ('<tool_call>\n{"sql": "select 1"}\n</tool_call>', {"sql": "select 1"}),
    "a tag with attributes": ('<parameter name="x">{"n": 1}</parameter>', {"n": 1}),
    "tags within a value stay": ('<args>{"html": "<b>hi</b>"}</args>', {"html": "<b>hi</b>"}),
    "a fence": ('```json\n{"n": 1}\n```', {"n": 1}),
    "prose": ('I will look it up: {"n": 1}. Is that right?', {"n": 1}),
    "a word before it": ('Arguments: {"n": 1}', {"n": 1}),
    "one brace in a text": ('Sure. {"a": "}{"}', {"a": "}{"}),
    "a comma at the end": ('{"a": [1, 2,],}', {"a": [1, 2]}),
    "keys without quotes": ("{sql: 'select 1', limit: 5}", {"sql": "select 1", "limit": 5}),
    "comments": ('{"a": 1 // the first\n}', {"a": 1}),
    "a literal of Python": (
        "{'a': None, 'b': True, 'c': (1, 2), 'd': \"it's\"}",
        {"a": None, "b": True, "c": [1, 2], "d": "it's"},
    ),
    "a call of Python": ("look_up(sql=\"select 'x'\", limit=-5)", {"sql": "select 'x'", "limit": -5}),
    "a call in a fence": ('```python\nlook_up(a={"b": [1]})\n```', {"a": {"b": [1]}}),
    "a call with an object": ('look_up({"n": 1})', {"n": 1}),
    "line breaks in a text": ('{"sql": "select 1\nfrom t"}', {"sql": "select 1\nfrom t"}),
    "encoded twice": ('"{\\"n\\": 1}"', {"n": 1}),
    "the whole call": ('<tool_call>{"name": "look_up", "arguments": {"n": 1}}</tool_call>', {"n": 1}),
    "escapes": ("{'a': 'x\\n\\u00e4'}", {"a": "x\nä"}),
}
UNREAD = {
    "cut off in a text": '{"sql": "delete from t where id = 1',
    "cut off in a number": '{"limit": 1',
    "cut off in a list": '{"ids": [1, 2',
    "cut off in an object": '{"a": {"b": 1}',
    "cut off after another": '{"a": 1} {"a": 2',
    "cut off call": 'look_up(sql="select 1", limit=',
    "two objects": '{"a": 1}{"a": 2}',
    "a list": '[{"a": 1}]',
    "a value without a key": '{"a": 1, "b"}',
    "a key without a value": '{"a": }',
    "two values": '{"limit": 10 20}',
    "a word": '{"a": tru}',
    "quotes within quotes": '{"sql": "select "a" from t"}',
    "an apostrophe": "{'a': 'it's'}",
    "three dots": '{"a": "x", "b": ...}',
    "an escape of no grammar": "{'pattern': '\\d+'}",
    "no number": "{'a': NaN}",
    "half a sign": "{'a': '\\ud83d'}",
    "a set": "{1, 2}",
    "code": "look_up(sql=open('/etc/passwd').read())",
    "a call of something else": "drop_all(sure=True)",
    "values by place": "look_up('select 1')",
    "values out of a name": "look_up(**{'a': 1})",
    "prose": "I do not know.",
    "prose with a brace": "use {tool} for that",
    "a call that is no literal": "look_up(filter={'a': 1}, since=today)",
    "the braces around it lost": 'filter: {"a": 1}',
    "the braces around it lost, with quotes": '"filter": {"a": 1}, "n": 2',
    "deep": '{"a":' * 20_000 + "1" + "}" * 20_000 + ",",
    "deep Python": "look_up(a=" + "(" * 20_000 + ")" * 20_000 + ")",
    "long": "{'a': '" + "x" * MOST_CHARACTERS + "'}",
}


@pytest.mark.parametrize("kind", READ)
def test_what_has_one_meaning_is_read(kind: str) -> None:
    written, meant = READ[kind]
    call = mended(ToolCall("c", "look_up", written))
    assert json.loads(call.arguments) == meant
    assert (call.call_id, call.name) == ("c", "look_up")


@pytest.mark.parametrize("kind", UNREAD)
def test_what_one_had_to_guess_is_left_alone(kind: str) -> None:
    call = ToolCall("c", "look_up", UNREAD[kind])
    assert mended(call) is call
    assert arguments_of(call.arguments) is None


def test_a_tool_with_a_hyphen_is_called_in_python_too() -> None:
    call = mended(ToolCall("c", "spawn_night-desk", "spawn_night-desk(description='x')"))
    assert json.loads(call.arguments) == {"description": "x"}


@pytest.mark.parametrize("written", ["", "  ", "{}", '{"name": "look_up", "arguments": {"n": 1}}'])
def test_what_is_json_is_not_touched(written: str) -> None:
    call = ToolCall("c", "look_up", written)
    assert mended(call) is call


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), JSON, min_size=1, max_size=4), st.data())
def test_no_beginning_of_a_call_is_ever_taken_for_a_call(
    arguments: dict[str, Any], data: st.DataObject
) -> None:
    whole = json.dumps(arguments)
    cut = whole[: data.draw(st.integers(1, len(whole) - 1))]
    call = ToolCall("c", "look_up", cut)
    assert mended(call) is call
