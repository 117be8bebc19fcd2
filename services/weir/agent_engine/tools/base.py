"""What a tool is, to the toolbox and to whatever wraps it."""

from typing import Any, Protocol

from msgspec import Struct

from weir.agent_engine.models.base import ToolDefinition


class Call(Struct, frozen=True, kw_only=True):
    """One call: its arguments as the model meant them, and as it wrote them."""

    call_id: str
    tool: str
    arguments: dict[str, Any]
    written: str


class Tool(Protocol):
    """Something that an agent can do."""

    @property
    def definition(self) -> ToolDefinition: ...

    async def run(self, call: Call) -> str:
        """The result as text. Raises ToolFailed, which the model is told."""
        ...
