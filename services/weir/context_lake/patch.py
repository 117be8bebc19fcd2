"""One patch of a whole lake: its operations in their order, whatever the order in which they are sent."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from weir.context_lake.changing import Catalogue, Reply, Tell, Terms, edit_lake
from weir.context_lake.config import Edit, placed, refusal_of
from weir.context_lake.connectors.declared import Place
from weir.context_lake.document import WantedDataset, WantedView
from weir.context_lake.tables.lakes import StoredLake
from weir_shared.auth.principal import Principal
from weir_shared.errors import FieldError, ValidationFailed


class WantedPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A patch as a request has it. Its items are read one by one, so that each tells its own fault."""

    addDatasets: list[dict[str, Any]] = []
    removeDatasets: list[str] = []
    updateDatasets: dict[str, dict[str, Any]] = {}
    addViews: list[dict[str, Any]] = []
    removeViews: list[str] = []
    updateViews: dict[str, dict[str, Any]] = {}


async def patch_lake(
    catalogue: Catalogue,
    principal: Principal,
    patch: WantedPatch,
    order: list[str],
    terms: Terms,
    tell: Tell,
) -> Reply:
    """`order` is the order of the patch's keys as sent. Raises ValidationFailed, and as `revise`."""

    def apply(_: StoredLake, edit: Edit) -> None:
        apply_patch(patch, edit)

    try:
        return await edit_lake(catalogue, principal, apply, reason="patched", terms=terms, tell=tell)
    except ValidationFailed as failed:
        raise refusal_of(in_document_order(failed.errors, order, patch)) from None


def apply_patch(patch: WantedPatch, edit: Edit) -> None:
    """Removes, then adds, then updates: an update sees what the same patch adds."""
    for n, name in enumerate(patch.removeViews):
        edit.remove_view(name, Place(f"removeViews[{n}]"))
    for n, name in enumerate(patch.removeDatasets):
        edit.remove_dataset(name, Place(f"removeDatasets[{n}]"))
    for n, body in enumerate(patch.addDatasets):
        at = Place(f"addDatasets[{n}]")
        if (dataset := _read(body, WantedDataset, edit, at)) is not None:
            edit.add_dataset(dataset, at)
    for n, body in enumerate(patch.addViews):
        at = Place(f"addViews[{n}]")
        if (view := _read(body, WantedView, edit, at)) is not None:
            edit.add_view(view, at)
    for name, fields in patch.updateDatasets.items():
        edit.update_dataset(name, fields, Place(f"updateDatasets.{name}"))
    for name, fields in patch.updateViews.items():
        edit.update_view(name, fields, Place(f"updateViews.{name}"))


def in_document_order(errors: Sequence[FieldError], order: list[str], patch: WantedPatch) -> list[FieldError]:
    """The faults as a reader of the patch meets them; `order` is the order of its keys as sent."""
    prefixes = [
        prefix for operation in order for prefix in _prefixes(operation, getattr(patch, operation, ()))
    ]
    ranks = {prefix: rank for rank, prefix in enumerate(prefixes)}

    def rank(error: FieldError) -> int:
        """That of the longest known prefix."""
        path = error.path
        while path and path not in ranks:
            path = path.rpartition(".")[0]
        return ranks.get(path, -1)

    return sorted(errors, key=rank)


def _read(body: dict[str, Any], kind: type[Any], edit: Edit, at: Place) -> Any:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as fault:
        error = placed(fault, at)
        edit.refuse(error.path, error.message, error.code)
        return None


def _prefixes(operation: str, items: Any) -> list[str]:
    """The places of an operation's items and of their fields, as sent."""
    named: list[tuple[str, Any]] = (
        [(f"{operation}.{name}", item) for name, item in items.items()]
        if isinstance(items, dict)
        else [(f"{operation}[{n}]", item) for n, item in enumerate(items)]
    )
    return [
        prefix
        for place, item in named
        for prefix in (place, *(f"{place}.{field}" for field in (item if isinstance(item, dict) else ())))
    ]
