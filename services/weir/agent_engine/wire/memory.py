"""Memory on the wire."""

from typing import Any

from msgspec import Struct


class MemoryEntry(Struct, frozen=True, kw_only=True):
    id: str
    schema_id: str
    user_sub: str
    content: str
    metadata: dict[str, Any]
    created_at: str
    updated_at: str


class Deleted(Struct, frozen=True, kw_only=True):
    status: str = "deleted"
