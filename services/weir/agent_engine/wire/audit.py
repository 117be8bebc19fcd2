"""Oversight on the wire: the calls of tools."""

from typing import Any

from msgspec import Struct


class ToolCallRecord(Struct, frozen=True, kw_only=True):
    """`session_id` is null once the session was deleted, `duration_ms` when the tool never answered.

    Of a long output its first 10 000 characters are kept here; the session has the whole.
    """

    id: int
    session_id: str | None
    turn_id: str
    call_id: str | None
    agent_name: str
    tool_name: str
    input: dict[str, Any]
    output: str
    status: str
    duration_ms: int | None
    user_id: str
    created_at: str


class ToolCallPage(Struct, frozen=True, kw_only=True):
    data: list[ToolCallRecord]
    total: int
    page: int
    per_page: int
    total_pages: int
