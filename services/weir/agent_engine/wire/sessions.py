"""Sessions on the wire."""

from typing import Any

from msgspec import Struct


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


class SessionList(Struct, frozen=True, kw_only=True):
    sessions: list[SessionSummary]
    total: int
    limit: int
    offset: int


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
    payload: Any
    created_at: str


class SessionDetail(SessionSummary, frozen=True, kw_only=True):
    """`messages` is what was said; `events` is everything that happened."""

    messages: list[SessionMessage]
    events: list[SessionEvent]
