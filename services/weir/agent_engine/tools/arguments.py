"""The arguments of a call: the JSON object that they should be, or what else a model wrote in its place.

Only whole texts are read, by the grammars of JSON5 and of Python's literals, and nothing is completed or guessed:
a call that was cut off, or that could mean two things, is none.
"""

import ast
import json
import re
from typing import Any

import msgspec
import pyjson5

from weir.agent_engine.models.base import ToolCall

# Only a fault of the model makes it this far; longer texts are not worth the time of everybody's loop.
MOST_CHARACTERS = 262_144
# Some models write the whole call where its arguments belong.
_WRAPPINGS = ({"name", "arguments"}, {"name", "parameters"})
# JSON5 and Python part ways with JSON, and with each other, at any other escape.
_ODD_ESCAPE = re.compile(r"\\(?:[^\"'\\/bfnrtu]|u(?![0-9A-Fa-f]{4}))")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_STRUCTURE = frozenset('{}[]=*"')
_NAMED = re.compile(r"\W*(\w+)\s*:\s*")
_WORDS_FOR_ARGUMENTS = frozenset({"arguments", "args", "input", "json", "parameters"})
_UNREADABLE = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, pyjson5.Json5DecoderException)


def arguments_of(written: str) -> dict[str, Any] | None:
    """The arguments that a model wrote, or None; nothing at all is no argument."""
    if not written.strip():
        return {}
    try:
        return msgspec.json.decode(written, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        return None


def mended(call: ToolCall) -> ToolCall:
    """The call with its arguments as JSON, where they can be read as anything; else as it is."""
    if len(call.arguments) > MOST_CHARACTERS or arguments_of(call.arguments) is not None:
        return call
    found = _read(call.name, call.arguments)
    if found is None:
        return call
    return ToolCall(call.call_id, call.name, json.dumps(found, ensure_ascii=False))


def _read(tool: str, text: str) -> dict[str, Any] | None:
    for read in (_text_of_json, _call_of_python, _object_within):
        try:
            if (found := _plain(read(tool, text))) is not None:
                return _unwrapped(tool, found)
        except _UNREADABLE:
            continue
    return None


def _text_of_json(tool: str, text: str) -> Any:
    """JSON within a text of JSON: encoded twice."""
    inner = json.loads(text)
    return json.loads(inner) if isinstance(inner, str) else None


def _call_of_python(tool: str, text: str) -> Any:
    """`tool(name="value")`, and nothing around it but a fence."""
    said = _without_fence(text)
    opening = f"{tool}("
    if not said.startswith(opening) or _ODD_ESCAPE.search(said):
        return None
    # A tool's name may hold hyphens, which no name of Python does.
    call = ast.parse(f"f({said.removeprefix(opening)}", mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
        return None
    return {str(given.arg): ast.literal_eval(given.value) for given in call.keywords if _is_named(given)}


def _is_named(given: ast.keyword) -> bool:
    if given.arg is None:
        raise ValueError("arguments by a name only")
    return True


def _object_within(tool: str, text: str) -> Any:
    """The one object in the text, whatever prose, tags or fence stand around it."""
    first, last = text.find("{"), text.rfind("}")
    before, within, after = text[: max(first, 0)], text[first : last + 1], text[last + 1 :]
    if first < 0 or not _is_around(_TAG.sub("", before), _TAG.sub("", after)):
        return None
    for read in (_json_with_line_breaks, pyjson5.decode, ast.literal_eval):
        try:
            if not (read is not _json_with_line_breaks and _ODD_ESCAPE.search(within)):
                return read(within)
        except _UNREADABLE:
            continue
    return None


def _is_around(before: str, after: str) -> bool:
    """Whether it only surrounds the object: it may also be all that is left of a larger one, or of a call."""
    named = _NAMED.fullmatch(before)
    return not set(before + after) & _STRUCTURE and (
        named is None or named[1].lower() in _WORDS_FOR_ARGUMENTS
    )


def _json_with_line_breaks(text: str) -> Any:
    return json.loads(text, strict=False)


def _without_fence(text: str) -> str:
    said = text.strip()
    if said.startswith("```") and said.endswith("```"):
        said = said.removesuffix("```").partition("\n")[2]
    return said.strip()


def _plain(found: Any) -> dict[str, Any] | None:
    """The object as JSON has it. Raises ValueError and TypeError for what is in no JSON."""
    if not isinstance(found, dict):
        return None
    text = json.dumps(found, allow_nan=False, ensure_ascii=False)
    return arguments_of(text)


def _unwrapped(tool: str, found: dict[str, Any]) -> dict[str, Any]:
    if set(found) not in _WRAPPINGS or found["name"] != tool:
        return found
    inner = found.get("arguments", found.get("parameters"))
    return inner if isinstance(inner, dict) else found
