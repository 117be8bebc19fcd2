"""How a request turns a tenant's lake into its next version. Pure: nothing is kept, and only links are looked at.

A request is a list of operations on an `Edit`; only the state after the last of them is checked, and every
fault of the request is told at once.
"""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET

from weir.context_lake import lineage, names
from weir.context_lake.checking import DatasetCheck
from weir.context_lake.checking_views import check_view
from weir.context_lake.connectors.declared import Findings, Place, reference_in
from weir.context_lake.connectors.imported import import_in
from weir.context_lake.document import (
    Authorship,
    Brought,
    Changes,
    Dataset,
    Document,
    Names,
    Revision,
    View,
    WantedDataset,
    WantedView,
)
from weir.context_lake.statement import Statement
from weir.context_lake.surroundings import Surroundings
from weir_shared.errors import FieldError, ValidationFailed, field_error_of

Kept = TypeVar("Kept", Dataset, View)
Wanted = TypeVar("Wanted", WantedDataset, WantedView)


class Shelf(Generic[Kept, Wanted]):
    """The datasets or the views of a lake that is being changed, by the keys of their names."""

    def __init__(self, kind: str, wanted_type: type[Wanted], kept: Iterable[Kept]) -> None:
        self.kind = kind
        self.wanted_type = wanted_type
        self.before: dict[str, Kept] = {names.key_of(item.name): item for item in kept}
        self.kept = dict(self.before)
        self.changed: dict[str, tuple[Wanted, Place]] = {}
        self.removed: dict[str, Place] = {}
        self.updated: dict[str, Place] = {}

    def holds(self, key: str) -> bool:
        return key in self.kept or key in self.changed

    def origin(self, key: str) -> Kept | None:
        """What an item was before this request, unless the request removed that."""
        return None if key in self.removed else self.before.get(key)

    def wanted(self, key: str) -> dict[str, Any]:
        """The item as a request would have it, before an update."""
        if key in self.changed:
            return msgspec.to_builtins(self.changed[key][0])
        known: dict[str, Any] = msgspec.to_builtins(self.kept[key])
        shown = {name: value for name, value in known.items() if name in _UPDATABLE[self.kind]}
        item = self.kept[key]
        if isinstance(item, Dataset) and item.columns:
            shown["columns"] = [column.shown() for column in item.columns]
        return shown

    def changes(self) -> Names:
        def shown(keys: Iterable[str], items: dict[str, Kept]) -> list[str]:
            return sorted((items[key].name for key in keys), key=str.lower)

        return Names(
            added=shown(self.kept.keys() - self.before.keys(), self.kept),
            removed=shown(self.before.keys() - self.kept.keys(), self.before),
            updated=shown(self.changed.keys() & self.before.keys(), self.kept),
        )


_UPDATABLE = {
    "dataset": (
        *("from", "name", "params", "notifications", "description", "visibility", "metadata"),
        "columns",
        *("acceleration", "time_column", "time_format", "ready_state"),
    ),
    "view": (
        *("name", "sql", "description", "visibility", "metadata"),
        *("refresh", "acceleration", "time_column", "time_format", "ready_state"),
    ),
}


class Edit:
    """The next version of a document while it is being made."""

    def __init__(self, document: Document, by: Authorship) -> None:
        self._before = document
        self.by = by
        self.found = Findings([], [])
        self.statements: dict[str, Statement] = {}
        """Of the views that are written, by their keys."""
        self.brought: list[Brought] = []
        self.datasets = Shelf[Dataset, WantedDataset]("dataset", WantedDataset, document.datasets)
        self.views = Shelf[View, WantedView]("view", WantedView, document.views)

    @property
    def is_empty(self) -> bool:
        shelves = (self.datasets, self.views)
        return not self.found.errors and not any(shelf.changed or shelf.removed for shelf in shelves)

    @property
    def parses(self) -> bool:
        """Whether finishing takes more than a moment."""
        accelerated = any(wanted.acceleration for wanted, _ in self.datasets.changed.values())
        return bool(self.views.changed) or accelerated

    def bring_import(self, brought: Brought) -> None:
        """Lets a dataset of this request read a file that came with it."""
        self.brought.append(brought)

    def refuse(self, path: str, message: str, code: str = "invalid") -> None:
        """Notes a fault that was found outside."""
        self.found.refuse(path, message, code)

    def add_dataset(self, wanted: WantedDataset, at: Place) -> None:
        self._add(self.datasets, wanted, at)

    def add_view(self, wanted: WantedView, at: Place) -> None:
        self._add(self.views, wanted, at)

    def replace_dataset(self, name: str, wanted: WantedDataset, at: Place) -> None:
        """Every field is replaced; what is not sent has its default again."""
        self._replace(self.datasets, name, wanted, at)

    def replace_view(self, name: str, wanted: WantedView, at: Place) -> None:
        self._replace(self.views, name, wanted, at)

    def update_dataset(self, name: str, fields: dict[str, Any], at: Place) -> None:
        """The fields that are sent are replaced, each as a whole; null is its default."""
        self._update(self.datasets, name, fields, at)

    def update_view(self, name: str, fields: dict[str, Any], at: Place) -> None:
        self._update(self.views, name, fields, at)

    def remove_dataset(self, name: str, at: Place) -> None:
        self._remove(self.datasets, name, at)

    def remove_view(self, name: str, at: Place) -> None:
        self._remove(self.views, name, at)

    def finish(self, around: Surroundings) -> Revision:
        """The revision, checked as a whole. Raises ValidationFailed with every fault."""
        literals = self._check_datasets(around)
        self._check_views()
        self._check_lineage()
        for shelf, most in ((self.datasets, around.max_datasets), (self.views, around.max_views)):
            if len(shelf.kept) > most:
                self.found.refuse("", f"a lake holds at most {most} {shelf.kind}s", "limit_exceeded")
        document = Document(
            datasets=sorted(self.datasets.kept.values(), key=_by_name),
            views=sorted(self.views.kept.values(), key=_by_name),
        )
        if len(msgspec.json.encode(document)) > around.max_config_bytes:
            message = f"the configuration of a lake has at most {around.max_config_bytes} bytes"
            self.found.refuse("", message, "limit_exceeded")
        if self.found.errors:
            raise refusal_of(self.found.errors)
        return Revision(
            document=document,
            literals=literals,
            dropped=self._before.references() - document.references(),
            brought=self.brought,
            dropped_imports=self._before.imports() - document.imports(),
            warnings=self.found.warnings,
            changes=Changes(self.datasets.changes(), self.views.changes()),
        )

    def _add(self, shelf: Shelf[Kept, Wanted], wanted: Wanted, at: Place) -> None:
        name = wanted.name if isinstance(wanted.name, str) else ""
        # One without a name is kept apart, to be told of by its check.
        key = names.key_of(name) or f"[{len(shelf.changed)}]"
        if key in shelf.changed:
            self.found.refuse(at.field("name"), f"{name} is added twice", "duplicate")
        elif self.datasets.holds(key) or self.views.holds(key):
            self.found.refuse(at.field("name"), f"name {name} is in use", "conflict")
        else:
            shelf.changed[key] = (wanted, at)

    def _replace(self, shelf: Shelf[Kept, Wanted], name: str, wanted: Wanted, at: Place) -> None:
        key = names.key_of(name)
        if not shelf.holds(key):
            self.found.refuse(at.field("name"), f"there is no {shelf.kind} {name}", "not_found")
            return
        if wanted.name is UNSET:
            wanted = msgspec.structs.replace(wanted, name=_name_on(shelf, key))
        elif names.key_of(str(wanted.name)) != key:
            self.found.refuse(at.field("name"), f"name must be {name}, as in the path", "name_mismatch")
        shelf.changed[key] = (wanted, at)
        shelf.updated[key] = at

    def _update(self, shelf: Shelf[Kept, Wanted], name: str, fields: dict[str, Any], at: Place) -> None:
        key = names.key_of(name)
        known = shelf.kept.get(key)
        if key in shelf.updated:
            self.found.refuse(at.prefix, f"{name} is updated twice", "duplicate")
        elif not shelf.holds(key) or (known is not None and not self.by.sees(known)):
            self.found.refuse(at.prefix, f"there is no {shelf.kind} {name}", "not_found")
        elif isinstance(new := fields.get("name"), str) and names.key_of(new) != key:
            message = f"name must be {name}: a {shelf.kind} cannot be renamed here"
            self.found.refuse(at.field("name"), message, "rename_not_supported")
        else:
            self._lay_over(shelf, key, fields, at)

    def _lay_over(self, shelf: Shelf[Kept, Wanted], key: str, fields: dict[str, Any], at: Place) -> None:
        merged = {"name": _name_on(shelf, key)} | shelf.wanted(key) | fields
        whole = {field: value for field, value in merged.items() if value is not None}
        try:
            wanted = msgspec.convert(whole, shelf.wanted_type)
        except msgspec.ValidationError as fault:
            self.found.errors.append(placed(fault, at))
            return
        below = shelf.changed[key][1] if key in shelf.changed else at
        shelf.changed[key] = (wanted, Place(below.prefix, over=at, fields=frozenset(fields)))
        shelf.updated[key] = at

    def _remove(self, shelf: Shelf[Kept, Wanted], name: str, at: Place) -> None:
        key = names.key_of(name)
        known = shelf.kept.get(key)
        if key in shelf.removed:
            self.found.refuse(at.prefix, f"{name} is removed twice", "duplicate")
        elif known is None or not self.by.sees(known):
            self.found.refuse(at.prefix or "name", f"there is no {shelf.kind} {name}", "not_found")
        else:
            del shelf.kept[key]
            shelf.removed[key] = at

    def _check_datasets(self, around: Surroundings) -> dict[str, str]:
        """Keeps what may be kept; the literals that are to be sealed, by their references."""
        literals: dict[str, str] = {}
        known = self._before.references()
        readable = {import_in(d.from_) for d in self._before.datasets if self.by.sees(d)}
        readable |= {brought.file for brought in self.brought}
        for key, (wanted, at) in self.datasets.changed.items():
            origin = self.datasets.origin(key)
            checked = DatasetCheck(wanted, at, around, self.found, known)
            dataset = checked.dataset(origin, self.by)
            if dataset is not None and (file := import_in(dataset.from_)) and file not in readable:
                message = "from names no upload that a dataset of yours reads"
                self.found.refuse(at.field("from"), message, "import_not_found")
            if dataset is None:
                self.datasets.kept.pop(key, None)
            else:
                self.datasets.kept[key] = dataset
                literals |= checked.literals
                self._warn_of_lost_credentials(origin, dataset, at)
        return literals

    def _check_views(self) -> None:
        for key, (wanted, at) in self.views.changed.items():
            checked = check_view(wanted, at, self.views.origin(key), self.by, self.found)
            if checked is None:
                self.views.kept.pop(key, None)
            else:
                self.views.kept[key], self.statements[key] = checked

    def _warn_of_lost_credentials(self, origin: Dataset | None, dataset: Dataset, at: Place) -> None:
        before = origin.params if origin else {}
        lost = [name for name, value in before.items() if reference_in(value) and name not in dataset.params]
        if lost:
            were = "parameters {} were" if len(lost) > 1 else "parameter {} was"
            message = f"credential {were.format(', '.join(lost))} removed"
            self.found.warn(at.field("params"), message, "credentials_removed")

    def _check_lineage(self) -> None:
        """Every view reads what there is, in no circle, and not too deep."""
        reads = lineage.lineage_of(self.views.kept.values())
        for key, view in self.views.kept.items():
            for read in view.reads:
                self._check_read(key, view, read)
        self._check_quoted()
        self._check_circles(reads)
        if not self.found.errors:
            self._check_depth(reads)

    def _check_read(self, key: str, view: View, read: str) -> None:
        relation = self.datasets.kept.get(read) or self.views.kept.get(read)
        is_changed = key in self.views.changed
        if is_changed and relation is not None and not self.by.sees(relation):
            relation = None  # what its author cannot read, a view must not show
        elif self.datasets.holds(read) or self.views.holds(read):
            return
        if is_changed:
            path = self.views.changed[key][1].field("sql")
            self.found.refuse(path, self._unknown(view, read), "unknown_table")
            return
        for shelf, code in ((self.datasets, "dataset_in_use"), (self.views, "view_in_use")):
            if read in shelf.removed:
                users = f"view {view.name}" if self.by.sees(view) else "a view that you cannot see"
                message = f"{shelf.before[read].name} is used by {users}"
                self.found.refuse(shelf.removed[read].prefix, message, code)

    def _check_quoted(self) -> None:
        """A name in quotes is found in the letters that it is written in; the engine looks no further."""
        for key, statement in self.statements.items():
            at, view = self.views.changed[key][1], self.views.kept[key]
            for asked in sorted(statement.asked):
                read = names.key_of(asked)
                relation = self.datasets.kept.get(read) or self.views.kept.get(read)
                if relation and self.by.sees(relation) and not names.answers_to(relation.name, asked):
                    self.found.refuse(at.field("sql"), self._unknown(view, asked), "unknown_table")

    def _unknown(self, view: View, read: str) -> str:
        there = (*self.datasets.kept.values(), *self.views.kept.values())
        seen = {names.key_of(item.name): item.name for item in there if self.by.sees(item)}
        seen.pop(names.key_of(view.name), None)
        close = difflib.get_close_matches(names.key_of(read), list(seen), n=1)
        hint = f"; did you mean '{seen[close[0]]}'?" if close else ""
        return f"view '{view.name}' refers to '{read}', which is neither a dataset nor a view{hint}"

    def _check_circles(self, reads: lineage.Lineage) -> None:
        told: set[str] = set()
        for key, (_, at) in self.views.changed.items():
            circle = lineage.circle_through(key, reads)
            if circle and not told & set(circle):
                told |= set(circle)
                way = " → ".join(self.views.kept[step].name for step in circle)
                self.found.refuse(
                    at.field("sql"), f"views must not read each other in a circle: {way}", "circular_view"
                )

    def _check_depth(self, reads: lineage.Lineage) -> None:
        chain = lineage.deepest_chain(reads)
        if len(chain) <= lineage.MAX_DEPTH:
            return
        cause: Sequence[str] = [key for key in chain if key in self.views.changed]
        at = self.views.changed[cause[0]][1] if cause else Place()
        message = f"views are at most {lineage.MAX_DEPTH} deep; this makes {len(chain)}"
        self.found.refuse(at.field("sql"), message, "view_too_deep")


def refusal_of(errors: Sequence[FieldError]) -> ValidationFailed:
    """All faults in one answer; when the lake is full and nothing else is wrong, that is its code."""
    refusal = ValidationFailed(errors)
    if all(not error.path and error.code == "limit_exceeded" for error in errors):
        refusal.code = "limit_exceeded"
    return refusal


def placed(fault: msgspec.ValidationError, at: Place) -> FieldError:
    """A fault of one item's shape, with the item's place in the request before its path."""
    error = field_error_of(fault)
    path = at.field(error.path) if error.path else at.prefix
    return FieldError(path=path, message=error.message, code=error.code)


def _name_on(shelf: Shelf[Kept, Wanted], key: str) -> str:
    if key in shelf.changed:
        return str(shelf.changed[key][0].name)
    return shelf.kept[key].name


def _by_name(item: Dataset | View) -> tuple[str, str]:
    return names.key_of(item.name), item.name
