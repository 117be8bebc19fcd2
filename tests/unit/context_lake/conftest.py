"""A lake as a document, changed without any I/O."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from weir.context_lake.config import Edit
from weir.context_lake.connectors.declared import Place
from weir.context_lake.document import Authorship, Document, Revision, WantedDataset
from weir.context_lake.surroundings import Surroundings
from weir_shared.errors import ValidationFailed

BY = Authorship("user:tester", "2026-04-01T08:00:00Z")


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    (tmp_path / "imports").mkdir()
    return Surroundings(import_root=tmp_path / "imports")


@pytest.fixture
def added(around: Surroundings) -> Callable[..., Revision]:
    """What adding a dataset to a document makes of it."""

    def add(body: dict[str, Any], to: Document | None = None, around: Surroundings = around) -> Revision:
        edit = Edit(to or Document(), BY)
        edit.add_dataset(msgspec.convert(body, WantedDataset), Place())
        return edit.finish(around)

    return add


@pytest.fixture
def faults(added: Callable[..., Revision]) -> Callable[..., dict[str, str]]:
    """Path and message of everything that is wrong with a dataset, in the order told."""

    def collect(body: dict[str, Any], **more: Any) -> dict[str, str]:
        try:
            added(body, **more)
        except ValidationFailed as failed:
            return {error.path: error.message for error in failed.errors}
        return {}

    return collect


def s3(**changes: Any) -> dict[str, Any]:
    """The dataset of the reference, with other parameters."""
    params: dict[str, Any] = {
        "s3_auth": "key",
        "s3_key": "AKIAEXAMPLE",
        "s3_secret": "shh",
        "s3_region": "us-east-1",
        "file_format": "parquet",
    }
    params |= changes
    kept = {name: value for name, value in params.items() if value is not None}
    return {"from": "s3://bucket/path/data.parquet", "name": "sales", "params": kept}
