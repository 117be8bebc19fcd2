"""A lake's configuration as a Spicepod: the parsed form, and the YAML that parses to exactly that."""

from functools import lru_cache
from typing import Any

import msgspec
import yaml

from weir.context_lake.document import Dataset, Document, View

# libyaml where it is there: four times as fast, and the same text.
_Emitter: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


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


def spicepod_of(document: Document) -> dict[str, Any]:
    """The document with the keys of a Spicepod, in their fixed order."""
    return {
        "version": "v1",
        "kind": "Spicepod",
        "datasets": [_dataset(dataset) for dataset in document.datasets],
        "views": [_view(view) for view in document.views],
    }


def yaml_of(spicepod: dict[str, Any]) -> str:
    """Deterministic, so that two texts differ only when two configurations do."""
    return _yaml_of(msgspec.json.encode(spicepod))


@lru_cache(maxsize=64)
def _yaml_of(content: bytes) -> str:
    # A lake is read more often than it is changed, and writing YAML is the dear part of a read.
    spicepod = msgspec.json.decode(content)
    return yaml.dump(spicepod, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def _dataset(dataset: Dataset) -> dict[str, Any]:
    shown: dict[str, Any] = {"from": dataset.from_, "name": dataset.name}
    if dataset.description is not None:
        shown["description"] = dataset.description
    if dataset.notifications:
        shown["notifications"] = True
    if dataset.visibility != "shared":
        shown["visibility"] = dataset.visibility
    if dataset.params:
        shown["params"] = dict(sorted(dataset.params.items()))
    return shown


def _view(view: View) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": view.name}
    if view.description is not None:
        shown["description"] = view.description
    if view.visibility != "shared":
        shown["visibility"] = view.visibility
    return shown | {"sql": view.sql}
