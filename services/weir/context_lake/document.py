"""What a lake is at one version, and a dataset as a request has it."""

from typing import Any, Literal, get_args

from msgspec import UNSET, Struct, UnsetType, field

from weir.context_lake import names
from weir.context_lake.connectors.declared import reference_in
from weir.context_lake.connectors.source import SourceText, read_from
from weir_shared.errors import FieldError

Visibility = Literal["private", "shared", "public"]
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
    },
):
    """A dataset as a request has it. The last four are the platform's own: accepted, so that what was read
    can be sent back, and ignored."""

    from_: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    params: dict[str, Any] | UnsetType | None = UNSET
    notifications: bool | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    visibility: str | UnsetType | None = UNSET
    connector_id: Any = UNSET
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
    # Known to a Spicepod, and refused by name until they do something.
    sql_ref: Any = UNSET
    columns: Any = UNSET
    metadata: Any = UNSET
    ready_state: Any = UNSET
    acceleration: Any = UNSET
    refresh: Any = UNSET
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
    created_at: str
    updated_at: str
    created_by: str

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
    created_at: str = ""
    updated_at: str = ""
    created_by: str = ""


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

    def references(self) -> set[str]:
        """Every secret that the document refers to."""
        return {
            reference
            for dataset in self.datasets
            for value in dataset.params.values()
            if (reference := reference_in(value))
        }


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
