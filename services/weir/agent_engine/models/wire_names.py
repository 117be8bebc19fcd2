"""Names and ids as every provider takes them: letters, digits, `_` and `-`, not long, beginning with a letter."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from weir.agent_engine.models.base import ToolCall, ToolDefinition

MAX_CHARACTERS = 64
_SAFE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OTHER = re.compile(r"[^A-Za-z0-9_-]")


def safe_name(name: str) -> str:
    """The name itself where every provider takes it, else one that is like it and nobody else's."""
    if _SAFE.fullmatch(name):
        return name
    return f"t_{_OTHER.sub('_', name)[: MAX_CHARACTERS - 11]}_{_digest(name)[:8]}"


def safe_id(call_id: str, size: int | None = None) -> str:
    """A call's id as every provider takes it; with a size, one of so many letters and digits.

    A session goes on when its agent gets another model, so the ids in it may come from any provider.
    """
    if size is None:
        return call_id if _SAFE_ID.fullmatch(call_id) else f"call_{_digest(call_id)[:32]}"
    fits = len(call_id) == size and call_id.isascii() and call_id.isalnum()
    return call_id if fits else _digest(call_id)[:size]


def unsafe_names(tools: Sequence[ToolDefinition]) -> dict[str, str]:
    """The tools that a provider knows by another name: what it calls them, and what they are."""
    return {safe: tool.name for tool in tools if (safe := safe_name(tool.name)) != tool.name}


def with_real_names(calls: tuple[ToolCall, ...], unsafe: dict[str, str]) -> tuple[ToolCall, ...]:
    """The calls with the names that the tools have here."""
    if not unsafe:
        return calls
    return tuple(ToolCall(call.call_id, unsafe.get(call.name, call.name), call.arguments) for call in calls)


def parameters_of(tool: ToolDefinition) -> dict[str, Any]:
    """A tool's schema; one without parameters says so, since strict providers refuse an object without properties."""
    return {"type": "object", "properties": {}} | tool.parameters


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
