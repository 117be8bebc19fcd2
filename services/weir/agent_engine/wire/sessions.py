"""Sessions on the wire."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Title = Annotated[str, Meta(max_length=200)]


class NewSession(Struct, frozen=True, kw_only=True):
    """`schema_id` takes a name too; `user_sub` is for administrators, who open a session for a user."""

    id: str | None = None
    title: Title | None = None
    schema_id: str | None = None
    user_sub: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    metadata: dict[str, Any] | None = None


class SessionChange(Struct, frozen=True, kw_only=True):
    title: Title | UnsetType = UNSET
    status: Literal["active", "completed", "expired", "failed"] | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class SessionSummary(Struct, frozen=True, kw_only=True):
    id: str
    agent: str
    created_at: str
    message_count: int
    schema: str
    schema_id: str | None
    user_sub: str
    title: str
    status: str
    updated_at: str
    metadata: dict[str, Any]


class SessionList(Struct, frozen=True, kw_only=True):
    sessions: list[SessionSummary]
    total: int
    limit: int
    offset: int
    page: int
    per_page: int
    total_pages: int


class SessionMessage(Struct, frozen=True, kw_only=True):
    id: int
    role: str
    content: str
    created_at: str


class SessionEvent(Struct, frozen=True, kw_only=True):
    """One entry of the full history, tool calls and reasoning included."""

    id: int
    event_type: str
    agent: str
    call_id: str | None
    parent_call_id: str | None
    """The call that a sub-agent worked for when this happened; null in the session's own conversation."""
    payload: Any
    created_at: str


class SessionDetail(SessionSummary, frozen=True, kw_only=True):
    """`messages` is what was said; `events` is everything that happened."""

    messages: list[SessionMessage]
    events: list[SessionEvent]
