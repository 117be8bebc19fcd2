"""A dataset's `columns`: which of them are described, and which are embedded when its rows are kept."""

from typing import Any

import msgspec
from msgspec import UNSET, Struct

from weir.context_lake.connectors.declared import Findings, Place
from weir_shared.errors import field_error_of

MAX_COLUMNS = 1000
MAX_DESCRIPTION = 4096
MAX_NAME = 255
# Its own idle values: what they ask for is not done.
_IDLE = (None, {}, {"enabled": False})


class Column(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A column of the document."""

    name: str
    description: str | None = None
    model: str | None = None
    """The tenant's model that embeds it; None: it is not embedded."""

    def shown(self) -> dict[str, Any]:
        """As a request would have it."""
        shown: dict[str, Any] = {"name": self.name}
        if self.description is not None:
            shown["description"] = self.description
        if self.model is not None:
            shown["embeddings"] = [{"from": self.model}]
        return shown


class _WantedEmbedding(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}
):
    from_: str
    chunking: Any = None
    row_id: Any = None
    vector_size: Any = None


class _WantedColumn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    description: str | None = None
    embeddings: list[_WantedEmbedding] | None = None
    full_text_search: Any = None
    metadata: Any = None


def check_columns(wanted: Any, *, is_accelerated: bool, at: Place, found: Findings) -> list[Column]:
    """The columns as they are kept; every fault of them is told."""
    if wanted is UNSET or not wanted:
        return []
    path = at.field("columns")
    try:
        columns = msgspec.convert(wanted, list[_WantedColumn])
    except msgspec.ValidationError as fault:
        error = field_error_of(fault)
        found.refuse(path + error.path, error.message, error.code)
        return []
    if len(columns) > MAX_COLUMNS:
        found.refuse(path, f"a dataset describes at most {MAX_COLUMNS} columns", "limit_exceeded")
        return []
    names: set[str] = set()
    for index, column in enumerate(columns):
        _check(column, f"{path}[{index}]", found, is_accelerated=is_accelerated)
        if column.name in names:
            found.refuse(f"{path}[{index}].name", f"{column.name[:64]} is described twice", "duplicate")
        names.add(column.name)
    return [
        Column(
            name=column.name,
            description=column.description or None,
            model=column.embeddings[0].from_ if column.embeddings else None,
        )
        for column in columns
    ]


def embedded_of(columns: list[Column]) -> list[dict[str, str]]:
    """The columns that are embedded, in the runtime's words."""
    return [{"name": column.name, "model": column.model} for column in columns if column.model is not None]


def _check(column: _WantedColumn, path: str, found: Findings, *, is_accelerated: bool) -> None:
    if not 1 <= len(column.name) <= MAX_NAME or "\0" in column.name:
        found.refuse(f"{path}.name", f"name must be 1 to {MAX_NAME} characters, none of them NUL")
    description = column.description or ""
    if len(description.encode()) > MAX_DESCRIPTION or "\0" in description:
        found.refuse(
            f"{path}.description", f"description must be at most {MAX_DESCRIPTION} bytes, none of them NUL"
        )
    for field in ("full_text_search", "metadata"):
        _refuse_busy(getattr(column, field), f"{path}.{field}", field, found)
    if not column.embeddings:
        return
    path = f"{path}.embeddings"
    if len(column.embeddings) > 1:
        found.refuse(path, "a column is embedded by one model", "not_supported")
    if not is_accelerated:
        message = "embeddings are made when rows are kept; the dataset needs acceleration"
        found.refuse(path, message, "needs_acceleration")
    for index, embedding in enumerate(column.embeddings):
        if not embedding.from_ or len(embedding.from_) > MAX_NAME or "\0" in embedding.from_:
            found.refuse(f"{path}[{index}].from", "from must be the name of a model of the kind embedding")
        for field in ("chunking", "row_id", "vector_size"):
            _refuse_busy(getattr(embedding, field), f"{path}[{index}].{field}", field, found)


def _refuse_busy(value: Any, path: str, field: str, found: Findings) -> None:
    if value not in _IDLE:
        found.refuse(path, f"{field} is not available in this version", "not_available")
