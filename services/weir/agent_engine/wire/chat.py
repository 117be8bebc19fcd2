"""A chat message on the wire, and the answer to one that is not streamed."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType


class ChatRequest(Struct, frozen=True, kw_only=True):
    message: Annotated[str, Meta(max_length=400_000)]
    session_id: str | None = None
    stream: bool = True
    headers: dict[str, str] | None = None
    """For the servers of tools that declare them, beside the request's own; never kept."""


class ToolUse(Struct, frozen=True, kw_only=True):
    tool: str
    input: dict[str, str]
    output: str


class ChatAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`message` is the error's sentence when nothing but an error happened."""

    session_id: str
    schema_id: str
    message: str
    error: dict[str, Any] | UnsetType = UNSET
    tool_calls: list[ToolUse] = []
