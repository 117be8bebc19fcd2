"""A tool that is gated: a person is asked before each call, and only a word of approval lets it run."""

from typing import Protocol

from weir.agent_engine.models.base import ToolDefinition
from weir.agent_engine.tools.base import Call, Tool


class Gate(Protocol):
    """Who asks, and waits for the answer."""

    def new_call_id(self) -> str: ...

    async def ask(self, call: Call) -> str:
        """The outcome: approved, denied or expired."""
        ...


class Gated:
    """A refusal is an ordinary result, which the model reads; nothing has failed."""

    def __init__(self, tool: Tool, gate: Gate) -> None:
        self._tool = tool
        self._gate = gate

    @property
    def definition(self) -> ToolDefinition:
        return self._tool.definition

    def new_call_id(self) -> str:
        return self._gate.new_call_id()

    async def run(self, call: Call) -> str:
        outcome = await self._gate.ask(call)
        if outcome == "approved":
            return await self._tool.run(call)
        if outcome == "expired":
            return f"{call.tool} was not run: the user declined it by giving no answer in time."
        return f"{call.tool} was not run: the user declined it."
