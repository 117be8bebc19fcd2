"""Capabilities on the wire: what an agent can do besides its tools."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class MemoryConfig(Struct, frozen=True, kw_only=True):
    """How much is remembered, and for how many days; 0 is without end."""

    max_entries: Count | None = None
    unlimited_entries: bool | None = None
    retention_days: Count | None = None
    unlimited_retention: bool | None = None


class KnowledgeConfig(Struct, frozen=True, kw_only=True):
    """How many passages a search gives at most, and how near they must be."""

    top_k: Annotated[int, Meta(ge=1, le=20)] | None = None
    similarity_threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    embedding_model_id: str | int | None = None
    sources: list[str] | None = None


class NewCapability(Struct, frozen=True, kw_only=True):
    type: str | None = None
    config: dict[str, Any] | None = None
    enabled: bool | None = None


class CapabilityChange(Struct, frozen=True, kw_only=True):
    """The keys of `config` that are sent replace those there are; null takes one away, and all of them."""

    type: str | UnsetType | None = UNSET
    config: dict[str, Any] | UnsetType | None = UNSET
    enabled: bool | UnsetType | None = UNSET


class CapabilityDetail(Struct, frozen=True, kw_only=True):
    id: str
    type: str
    config: dict[str, Any]
    enabled: bool
    created_at: str
    updated_at: str
