"""YAML in and out: what strangers send is looked through event by event before anything is built of it.

The limits are those that were measured to keep libyaml and what comes after it alive: deep nesting ends the
process, an alias makes a few lines a gigabyte, and a repeated key silently loses what stood there before.
"""

from collections.abc import Iterator
from typing import Any, cast

import yaml

MAX_DEPTH = 64
MAX_EVENTS = 50_000

# libyaml where it is there: four times as fast, and the same text.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Emitter: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_OPENING = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSING = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


class BadYaml(Exception):
    """The text is not taken; the sentence says why and where."""


def load_yaml(content: bytes) -> Any:
    """One document as dicts, lists and scalars; None when it is empty. Raises BadYaml."""
    try:
        _guard(yaml.parse(content, Loader=_Loader))
        return yaml.load(content, Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as fault:
        raise BadYaml(f"{fault.problem or fault.context or 'not YAML'}{_place(fault.problem_mark)}") from None
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as fault:
        raise BadYaml(str(fault).splitlines()[0][:200]) from None


def dump_yaml(data: Any) -> str:
    """Plain data in the order that it has, with texts that come back as they were."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def _guard(events: Iterator[Any]) -> None:
    documents = 0
    # Of each open mapping the keys so far and whether a key comes next; of a sequence None.
    open_: list[tuple[set[str], list[bool]] | None] = []
    for count, event in enumerate(events, 1):
        documents += isinstance(event, yaml.DocumentStartEvent)
        if count > MAX_EVENTS:
            raise BadYaml(f"more than {MAX_EVENTS} values")
        if documents > 1:
            raise BadYaml(f"one document is taken, not several{_place(event.start_mark)}")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise BadYaml(f"anchors and aliases are not taken: write it out{_place(event.start_mark)}")
        if isinstance(event, (*_OPENING, yaml.ScalarEvent)):
            _note(open_, event)
        if isinstance(event, _OPENING):
            if len(open_) >= MAX_DEPTH:
                raise BadYaml(f"nested deeper than {MAX_DEPTH}{_place(event.start_mark)}")
            open_.append((set(), [True]) if isinstance(event, yaml.MappingStartEvent) else None)
        elif isinstance(event, _CLOSING):
            open_.pop()


def _note(open_: list[tuple[set[str], list[bool]] | None], event: Any) -> None:
    """Follows the keys of the innermost mapping. Raises BadYaml for one that repeats or is no scalar."""
    if not open_ or open_[-1] is None:
        return
    keys, (is_key,) = open_[-1]
    open_[-1][1][0] = not is_key
    if not is_key:
        return
    if not isinstance(event, yaml.ScalarEvent):
        raise BadYaml(f"a key is a word{_place(event.start_mark)}")
    key = cast("str", event.value)
    if key in keys:
        raise BadYaml(f"the key {key[:100]!r} stands there twice{_place(event.start_mark)}")
    keys.add(key)


def _place(mark: Any) -> str:
    return f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""


class _Dumper(_Emitter):
    """Block scalars for texts of several lines, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _dump_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if not all(sign == "\n" or sign.isprintable() for sign in text):
        style = '"'  # written as escapes, or they would come back as something else
    elif "\n" in text:
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _dump_text)
