"""Memory as tools: what one user's agents of a schema remember of them, across sessions."""

from typing import Any

import msgspec
from msgspec import Struct

from weir.agent_engine.models.base import ToolDefinition
from weir.agent_engine.signals import ToolFailed
from weir.agent_engine.tables import memories
from weir.agent_engine.tools.base import Call
from weir.agent_engine.wire.capabilities import MemoryConfig
from weir_shared.clock import rfc3339
from weir_shared.db.pool import Database, ForeignKeyViolation
from weir_shared.ids import new_id

MAX_CONTENT = 20_000
MAX_METADATA_BYTES = 8192
MAX_WORDS = 32
DEFAULT_LIMIT, MOST_AT_ONCE = 10, 50


class Memory(Struct, frozen=True, kw_only=True):
    """Whose memory, and how much of it is kept."""

    database: Database
    tenant_id: str
    schema_id: str
    owner: str
    config: MemoryConfig

    @property
    def most(self) -> int | None:
        return None if self.config.unlimited_entries else self.config.max_entries or None


class MemoryStore:
    """Keeps one thing."""

    definition = ToolDefinition(
        name="memory_store",
        description=(
            "Remembers one fact about the user beyond this conversation: a preference, a decision, a name. "
            "Write it so that it can be understood without the conversation."
        ),
        parameters={
            "type": "object",
            "properties": {
                "content": {"type": "string", "description": "What to remember."},
                "metadata": {
                    "type": "object",
                    "description": "Labels, texts by name.",
                    "additionalProperties": {"type": "string"},
                },
            },
            "required": ["content"],
        },
    )

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def run(self, call: Call) -> str:
        content, metadata = call.arguments.get("content"), call.arguments.get("metadata") or {}
        if not isinstance(content, str) or not content.strip():
            raise ToolFailed("memory_store needs the argument `content`: what to remember, as text")
        if len(content) > MAX_CONTENT:
            raise ToolFailed(f"At most {MAX_CONTENT} characters are remembered at once; write it shorter")
        if not isinstance(metadata, dict) or len(msgspec.json.encode(metadata)) > MAX_METADATA_BYTES:
            raise ToolFailed("`metadata` is an object of short texts")
        memory = self._memory
        try:
            async with memory.database.tenant(memory.tenant_id) as connection:
                await memories.add(
                    connection,
                    memory.tenant_id,
                    id=new_id(),
                    schema_id=memory.schema_id,
                    owner=memory.owner,
                    content=content.replace("\0", "\ufffd"),
                    metadata={str(name): _text(value) for name, value in metadata.items()},
                    most=memory.most,
                )
        except ForeignKeyViolation:
            raise ToolFailed("Nothing can be remembered any more: the schema was deleted") from None
        return "It is remembered."


class MemoryRecall:
    """Looks for what was kept."""

    definition = ToolDefinition(
        name="memory_recall",
        description=(
            "Looks up what was remembered about the user, newest first. All words of the query must occur; "
            "without a query the newest entries come."
        ),
        parameters={
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "Words that the entries hold."},
                "limit": {"type": "integer", "description": f"At most so many, {MOST_AT_ONCE} or fewer."},
            },
        },
    )

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def run(self, call: Call) -> str:
        query, limit = call.arguments.get("query") or "", call.arguments.get("limit", DEFAULT_LIMIT)
        if not isinstance(query, str):
            raise ToolFailed("`query` is a text: the words that the entries hold")
        if not isinstance(limit, int) or isinstance(limit, bool):
            raise ToolFailed("`limit` is a whole number")
        memory = self._memory
        words = query.replace("\0", "\ufffd").split()[:MAX_WORDS]
        async with memory.database.tenant(memory.tenant_id) as connection:
            rows = await memories.search(
                connection,
                memory.tenant_id,
                memory.schema_id,
                memory.owner,
                words,
                min(max(limit, 1), MOST_AT_ONCE),
            )
        if not rows:
            return f"Nothing is remembered{f' with the words {query[:200]!r}' if words else ''}."
        return "\n".join(_line(row) for row in rows)


def _line(row: memories.MemoryRow) -> str:
    labels = "".join(f" [{name}: {value}]" for name, value in row.metadata.items())
    return f"- {rfc3339(row.created_at)}{labels} {row.content}"


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text.replace("\0", "\ufffd")
