"""How a request turns a tenant's lake into its next version. Pure: nothing is kept, and only links are looked at.

A request is a list of operations on an `Edit`; only the state after the last of them is checked, and every
fault of the request is told at once.
"""

from msgspec import UNSET

from weir.context_lake import names
from weir.context_lake.checking import DatasetCheck
from weir.context_lake.connectors.declared import Findings, Place
from weir.context_lake.document import Authorship, Dataset, Document, Revision, WantedDataset
from weir.context_lake.surroundings import Surroundings
from weir_shared.errors import ValidationFailed


class Edit:
    """The next version of a document while it is being made."""

    def __init__(self, document: Document) -> None:
        self._before = document
        self._datasets = {names.key_of(dataset.name): dataset for dataset in document.datasets}
        self._views = {names.key_of(view.name): view for view in document.views}
        self._changed: dict[str, tuple[WantedDataset, Place]] = {}
        self._found = Findings([], [])

    def add_dataset(self, wanted: WantedDataset, at: Place) -> None:
        name = wanted.name if isinstance(wanted.name, str) else ""
        key = names.key_of(name)
        if key in self._datasets or key in self._changed or key in self._views:
            self._found.refuse(at.field("name"), f"name {name} is in use", "conflict")
        else:
            self._changed[key] = (wanted, at)

    def replace_dataset(self, name: str, wanted: WantedDataset, at: Place) -> None:
        """Every field is replaced; what is not sent has its default again."""
        key = names.key_of(name)
        if wanted.name is UNSET:
            wanted = _renamed(wanted, self._datasets[key].name if key in self._datasets else name)
        elif names.key_of(str(wanted.name)) != key:
            self._found.refuse(at.field("name"), f"name must be {name}, as in the path", "name_mismatch")
        if key not in self._datasets and key not in self._changed:
            self._found.refuse(at.field("name"), f"there is no dataset {name}", "not_found")
        else:
            self._changed[key] = (wanted, at)

    def remove_dataset(self, name: str, at: Place) -> None:
        key = names.key_of(name)
        if self._datasets.pop(key, None) is None:
            self._found.refuse(at.prefix or "name", f"there is no dataset {name}", "not_found")

    def finish(self, around: Surroundings, by: Authorship) -> Revision:
        """The revision, checked as a whole. Raises ValidationFailed with every fault."""
        literals: dict[str, str] = {}
        for key, (wanted, at) in self._changed.items():
            checked = DatasetCheck(wanted, at, around, self._found, self._before.references())
            dataset = checked.dataset(self._before.find_dataset(key), by)
            if dataset is not None:
                self._datasets[key] = dataset
                literals |= checked.literals
        if len(self._datasets) > around.max_datasets:
            self._found.refuse("", f"a lake holds at most {around.max_datasets} datasets", "limit_exceeded")
        if self._found.errors:
            raise ValidationFailed(self._found.errors)
        document = Document(
            datasets=sorted(self._datasets.values(), key=_by_name), views=list(self._views.values())
        )
        return Revision(
            document=document,
            literals=literals,
            dropped=self._before.references() - document.references(),
            warnings=self._found.warnings,
        )


def _renamed(wanted: WantedDataset, name: str) -> WantedDataset:
    return WantedDataset(
        from_=wanted.from_,
        name=name,
        params=wanted.params,
        notifications=wanted.notifications,
        description=wanted.description,
    )


def _by_name(dataset: Dataset) -> tuple[str, str]:
    return names.key_of(dataset.name), dataset.name
