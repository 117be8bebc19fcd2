"""Relations between the agents of a schema on the wire; agents are named or given by id, and told by name."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType


class NewRelation(Struct, frozen=True, kw_only=True):
    """`config` is the client's own, e.g. how an editor draws the edge."""

    source: str
    target: str
    config: dict[str, Any] | None = None


class RelationChange(Struct, frozen=True, kw_only=True):
    source: str | UnsetType = UNSET
    target: str | UnsetType = UNSET
    config: dict[str, Any] | UnsetType | None = UNSET


class RelationDetail(Struct, frozen=True, kw_only=True):
    id: str
    schema_id: str
    source: str
    target: str
    config: dict[str, Any]
    created_at: str
    updated_at: str
