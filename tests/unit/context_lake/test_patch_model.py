"""Patches against a model: a dictionary that does what the reference says, one operation after the other."""

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from tests.promises import Promise, size
from tests.unit.context_lake.conftest import BY

from weir.context_lake.config import Edit
from weir.context_lake.document import Document
from weir.context_lake.patch import WantedPatch, apply_patch
from weir.context_lake.surroundings import Surroundings
from weir_shared.errors import ValidationFailed

STEPS = 30
NAMES = ("a", "b", "C", "d")
name = some.sampled_from(NAMES) | some.sampled_from(NAMES).map(str.swapcase)
text = some.sampled_from(["x", "y"])
datasets = some.fixed_dictionaries(
    {"name": name, "from": some.just("file:t.csv")}, optional={"description": text}
)
patches = some.fixed_dictionaries(
    {},
    optional={
        "addDatasets": some.lists(datasets, max_size=3),
        "removeDatasets": some.lists(name, max_size=3),
        "updateDatasets": some.dictionaries(
            name, some.fixed_dictionaries({}, optional={"description": text | some.none()}), max_size=2
        ),
        "addViews": some.lists(
            some.fixed_dictionaries({"name": name, "sql": name.map(lambda n: f"select 1 as x from {n}")}),
            max_size=2,
        ),
        "removeViews": some.lists(name, max_size=2),
    },
)

Model = dict[str, dict[str, Any]]


class Refused(Exception):
    pass


def expected(before: Model, patch: dict[str, Any]) -> Model:
    """Removes, then adds, then updates, then the look at the whole; anything wrong refuses everything."""
    after = {key: dict(item) for key, item in before.items()}
    for operation, kind in (("removeViews", "view"), ("removeDatasets", "dataset")):
        for removed in patch.get(operation, ()):
            if after.get(removed.lower(), {}).get("kind") != kind:
                raise Refused
            del after[removed.lower()]
    for operation, kind in (("addDatasets", "dataset"), ("addViews", "view")):
        for item in patch.get(operation, ()):
            if item["name"].lower() in after:
                raise Refused
            after[item["name"].lower()] = {"kind": kind, **item}
    updated: set[str] = set()
    for key, fields in patch.get("updateDatasets", {}).items():
        if after.get(key.lower(), {}).get("kind") != "dataset" or key.lower() in updated:
            raise Refused
        updated.add(key.lower())
        merged = after[key.lower()] | fields
        after[key.lower()] = {field: value for field, value in merged.items() if value is not None}
    for key, item in after.items():
        seen: set[str] = set()
        read = key
        while (sql := after[read].get("sql")) is not None:
            seen.add(read)
            read = sql.rpartition(" ")[2].lower()
            if read in seen or read not in after:
                raise Refused
        assert item
    return after


def shown(document: Document) -> Model:
    model: Model = {}
    for dataset in document.datasets:
        item = {"kind": "dataset", "name": dataset.name, "from": dataset.from_}
        model[dataset.name.lower()] = item | (
            {"description": dataset.description} if dataset.description else {}
        )
    for view in document.views:
        model[view.name.lower()] = {"kind": "view", "name": view.name, "sql": view.sql}
    return model


@pytest.mark.promise("P1")
@pytest.mark.timeout(1800)
def test_a_program_of_patches_leaves_what_the_model_says(promise: Promise) -> None:
    programs, told = size(200, 2000), Counter[str]()

    @settings(max_examples=programs, deadline=None)
    @given(program=some.lists(patches, min_size=1, max_size=STEPS))
    def run(program: list[dict[str, Any]]) -> None:
        told["programs"] += 1
        follow(program, told)

    run()
    assert told["made"] and told["refused"]
    promise.held(
        f"{told['programs']} programs of up to {STEPS} patches against a model: {told['made']} made,"
        f" {told['refused']} refused whole, 0 differences"
    )


def follow(program: list[dict[str, Any]], told: Counter[str]) -> None:
    document, model = Document(), {}
    around = Surroundings(import_root=Path("/nowhere"))
    for patch in program:
        edit = Edit(document, BY)
        apply_patch(msgspec.convert(patch, WantedPatch), edit)
        try:
            wanted = expected(model, patch)
        except Refused:
            wanted = None
        try:
            revision = edit.finish(around)
        except ValidationFailed as failed:
            told["refused"] += 1
            assert wanted is None, failed.errors
            assert shown(document) == model
        else:
            told["made"] += 1
            assert wanted is not None, patch
            document, model = revision.document, wanted
            assert shown(document) == model
