"""Models on the wire. An API key goes in and never comes out."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

Text = Annotated[str, Meta(max_length=2000)]
Dimension = Annotated[int, Meta(ge=1, le=65536)]


class NewModel(Struct, frozen=True, kw_only=True):
    name: str
    type: Text
    model_name: Annotated[str, Meta(min_length=1, max_length=200)]
    base_url: Text | None = None
    api_key: Annotated[str, Meta(max_length=8192)] | None = None
    kind: Text = "chat"
    api_version: Text | None = None
    embedding_dim: Dimension | None = None
    is_default: bool | None = None


class ModelChange(Struct, frozen=True, kw_only=True):
    """The fields to change; null clears one that may be empty, and an empty API key keeps the one there is."""

    name: str | UnsetType = UNSET
    type: Text | UnsetType = UNSET
    model_name: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType = UNSET
    base_url: Text | UnsetType | None = UNSET
    api_key: Annotated[str, Meta(max_length=8192)] | UnsetType | None = UNSET
    kind: Text | UnsetType = UNSET
    api_version: Text | UnsetType | None = UNSET
    embedding_dim: Dimension | UnsetType | None = UNSET
    is_default: bool | UnsetType = UNSET


class ModelDetail(Struct, frozen=True, kw_only=True):
    id: int
    name: str
    type: str
    kind: str
    base_url: str | None
    model_name: str
    has_api_key: bool
    api_version: str | None
    embedding_dim: int | None
    is_default: bool
    created_at: str
    updated_at: str


class Verification(Struct, frozen=True, kw_only=True):
    """Whether a model answers, and whether it calls tools."""

    connectivity: str
    tool_calling: str
    response_time_ms: int
    model_name: str
    provider: str
    error: str | None
