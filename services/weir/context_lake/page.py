"""A lake's configuration as a Spicepod: the parsed form, and the YAML that parses to exactly that."""

from functools import lru_cache
from typing import Any

import msgspec

from weir.context_lake.document import Dataset, Document, View
from weir_shared.yaml_text import dump_yaml

# A Spicepod has to have a name; whose lake it is, the credential says.
NAME = "context-lake"


def spicepod_of(document: Document) -> dict[str, Any]:
    """The document with the keys of a Spicepod, in their fixed order."""
    return {
        "version": "v1",
        "kind": "Spicepod",
        "name": NAME,
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
    return dump_yaml(spicepod)


def _dataset(dataset: Dataset) -> dict[str, Any]:
    shown: dict[str, Any] = {"from": dataset.from_, "name": dataset.name}
    if dataset.description is not None:
        shown["description"] = dataset.description
    if dataset.metadata:
        shown["metadata"] = dataset.metadata
    if dataset.notifications:
        shown["notifications"] = True
    if dataset.visibility != "shared":
        shown["visibility"] = dataset.visibility
    if dataset.params:
        shown["params"] = dict(sorted(dataset.params.items()))
    if dataset.columns:
        shown["columns"] = [column.shown() for column in dataset.columns]
    return shown | _keeping(dataset)


def _view(view: View) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": view.name}
    if view.description is not None:
        shown["description"] = view.description
    if view.metadata:
        shown["metadata"] = view.metadata
    if view.visibility != "shared":
        shown["visibility"] = view.visibility
    if view.refresh is not None:
        shown["refresh"] = view.refresh
    return shown | _keeping(view) | {"sql": view.sql}


def _keeping(item: Dataset | View) -> dict[str, Any]:
    fields = {
        "time_column": item.time_column,
        "time_format": item.time_format,
        "ready_state": item.ready_state,
        "acceleration": None if item.acceleration is None else item.acceleration.shown(),
    }
    return {name: value for name, value in fields.items() if value is not None}
