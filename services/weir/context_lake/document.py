"""What a lake is at one version, and a dataset as a request has it."""

import hashlib
from typing import Any, Literal, get_args

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from weir.context_lake import names
from weir.context_lake.connectors.declared import reference_in
from weir.context_lake.connectors.files import FILE_COLUMNS
from weir.context_lake.connectors.imported import import_in
from weir.context_lake.connectors.source import SourceText, read_from
from weir.context_lake.embedded import Column, embedded_of
from weir.context_lake.refreshes.acceleration import Acceleration, acceleration_of_view
from weir_shared.errors import FieldError

Visibility = Literal["private", "shared", "public"]
Validation = Literal["checked", "deferred"]
VISIBILITIES: tuple[Visibility, ...] = get_args(Visibility)


class WantedDataset(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={
        "from_": "from",
        "connector_id": "connectorId",
        "created_at": "createdAt",
        "updated_at": "updatedAt",
        "created_by": "createdBy",
        "notifications_info": "notificationsInfo",
    },
):
    """A dataset as a request has it. The last seven are the platform's own: accepted, so that what was read
    can be sent back, and ignored."""

    from_: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    params: dict[str, Any] | UnsetType | None = UNSET
    notifications: bool | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    visibility: str | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET
    # Held against `embedded`, which tells every fault of them.
    columns: Any = UNSET
    # Held against `refreshes.checking`, which tells every fault of them.
    acceleration: Any = UNSET
    time_column: Any = UNSET
    time_format: Any = UNSET
    ready_state: Any = UNSET
    # Known to a Spicepod, and refused by name until they do something; see `checking.NOT_YET`.
    access: Any = UNSET
    time_partition_column: Any = UNSET
    time_partition_format: Any = UNSET
    check_availability: Any = UNSET
    unsupported_type_action: Any = UNSET
    embeddings: Any = UNSET
    vectors: Any = UNSET
    metrics: Any = UNSET
    replication: Any = UNSET
    ref: Any = UNSET
    connector_id: Any = UNSET
    notifications_info: Any = UNSET
    origin: Any = UNSET
    status: Any = UNSET
    created_at: Any = UNSET
    updated_at: Any = UNSET
    created_by: Any = UNSET


class WantedView(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"created_at": "createdAt", "updated_at": "updatedAt", "created_by": "createdBy"},
):
    """A view as a request has it; the platform's own fields are accepted and ignored, as a dataset's are."""

    name: str | UnsetType = UNSET
    sql: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    visibility: str | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET
    # Held against `refreshes.checking`, which tells every fault of them.
    refresh: Any = UNSET
    acceleration: Any = UNSET
    time_column: Any = UNSET
    time_format: Any = UNSET
    ready_state: Any = UNSET
    # Known to a Spicepod, and refused by name until they do something.
    sql_ref: Any = UNSET
    columns: Any = UNSET
    validation: Any = UNSET
    created_at: Any = UNSET
    updated_at: Any = UNSET
    created_by: Any = UNSET


class Dataset(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"from_": "from"}):
    """A dataset of the document; its credentials are references to sealed secrets."""

    from_: str
    name: str
    params: dict[str, str] = {}
    notifications: bool = False
    description: str | None = None
    visibility: Visibility = "shared"
    metadata: dict[str, Any] = {}
    """What its author wants to have written beside it; of it only the columns of files are acted upon."""
    columns: list[Column] = []
    acceleration: Acceleration | None = None
    time_column: str | None = None
    time_format: str | None = None
    ready_state: str | None = None
    created_at: str
    updated_at: str
    created_by: str

    @property
    def fingerprint(self) -> str:
        """Of what its columns are read from: another one, and what was known of them is not known any more."""
        read: tuple[object, ...] = (self.from_, sorted(self.params.items()))
        if embedded := embedded_of(self.columns):
            read += (embedded,)
        if self.kept is not None and self.kept.refresh_sql:
            read += (self.kept.refresh_sql,)
        if self.file_columns:
            read += (self.file_columns,)
        content = msgspec.json.encode(read)
        return hashlib.sha256(content).hexdigest()[:32]

    @property
    def kept(self) -> Acceleration | None:
        """How its rows are kept beside the source; None when they are not."""
        return self.acceleration if self.acceleration is not None and self.acceleration.is_on else None

    @property
    def file_columns(self) -> list[str]:
        """The columns that tell of a row's file, in their order."""
        return [name for name in FILE_COLUMNS if self.metadata.get(name) == "enabled"]

    @property
    def source(self) -> SourceText:
        text = read_from(self.from_)
        assert text is not None, "a stored dataset has been checked"
        return text


class View(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A view of the document; `reads` are the keys of the datasets and views that its statement names."""

    name: str
    sql: str
    reads: list[str] = []
    description: str | None = None
    visibility: Visibility = "shared"
    metadata: dict[str, Any] = {}
    validation: Validation = "deferred"
    """Whether its columns were known to exist when it, or what it reads, was last written."""
    refresh: str | None = None
    acceleration: Acceleration | None = None
    time_column: str | None = None
    time_format: str | None = None
    ready_state: str | None = None
    created_at: str = ""
    updated_at: str = ""
    created_by: str = ""

    @property
    def kept(self) -> Acceleration | None:
        """How its rows are kept; None when it is its statement and no more."""
        return acceleration_of_view(self.refresh, self.acceleration)


class Document(Struct, frozen=True, kw_only=True):
    """What a lake holds at one version."""

    datasets: list[Dataset] = []
    views: list[View] = []

    def find_dataset(self, name: str) -> Dataset | None:
        key = names.key_of(name)
        return next((dataset for dataset in self.datasets if names.key_of(dataset.name) == key), None)

    def find_view(self, name: str) -> View | None:
        key = names.key_of(name)
        return next((view for view in self.views if names.key_of(view.name) == key), None)

    def holds(self, name: str) -> bool:
        """Whether a dataset or a view has this name."""
        return self.find_dataset(name) is not None or self.find_view(name) is not None

    def find(self, name: str) -> "Dataset | View | None":
        """Datasets and views share one namespace."""
        return self.find_dataset(name) or self.find_view(name)

    def imports(self) -> set[str]:
        """Every uploaded file that the document reads."""
        return {file for dataset in self.datasets if (file := import_in(dataset.from_))}

    def references(self) -> set[str]:
        """Every secret that the document refers to."""
        return set().union(*(references_of(dataset) for dataset in self.datasets))


def references_of(dataset: Dataset) -> set[str]:
    """Every secret that a dataset refers to."""
    return {reference for value in dataset.params.values() if (reference := reference_in(value))}


class Brought(Struct, frozen=True, kw_only=True):
    """A file that a request has uploaded, for the dataset of that name."""

    file: str
    name: str
    size: int
    schema: bytes
    """Its columns, as the runtime writes them down."""


class Names(Struct, frozen=True):
    added: list[str] = []
    removed: list[str] = []
    updated: list[str] = []


class Changes(Struct, frozen=True):
    """What one revision does, by name."""

    datasets: Names = field(default_factory=Names)
    views: Names = field(default_factory=Names)


class Revision(Struct, frozen=True, kw_only=True):
    """A document that may be kept, with the literals that are to be sealed by their references."""

    document: Document
    literals: dict[str, str]
    dropped: set[str]
    brought: list[Brought] = []
    dropped_imports: set[str] = set()
    warnings: list[FieldError]
    changes: Changes = field(default_factory=Changes)


class Authorship(Struct, frozen=True):
    """Who changes the lake, and when (RFC 3339)."""

    author: str
    moment: str
    is_admin: bool = False

    def sees(self, item: Dataset | View) -> bool:
        """What is private exists for its creator and for admins only."""
        return item.visibility != "private" or self.is_admin or item.created_by == self.author
