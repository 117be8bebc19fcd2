"""Schemas on the wire: an entry agent, and whether one may chat with it."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

Description = Annotated[str, Meta(max_length=2000)]


class SchemaFields(Struct, frozen=True, kw_only=True):
    """What can be said of a schema. The entry agent has three words, and each takes a name or an id."""

    description: Description | UnsetType | None = UNSET
    entry_agent_id: str | UnsetType | None = UNSET
    entry_agent: str | UnsetType | None = UNSET
    entry_agent_name: str | UnsetType | None = UNSET
    chat_enabled: bool | UnsetType | None = UNSET


class NewSchema(SchemaFields, frozen=True, kw_only=True):
    name: str


class SchemaChange(SchemaFields, frozen=True, kw_only=True):
    name: str | UnsetType = UNSET


class SchemaDetail(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    description: str
    agents: list[str]
    agents_count: int
    entry_agent_id: str | None
    entry_agent_name: str | None
    chat_enabled: bool
    chat_last_fired_at: str | None
    is_system: bool
    created_at: str
    updated_at: str
