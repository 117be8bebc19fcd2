"""The tools of one turn: what the model is offered, and what becomes of its calls."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from weir.agent_engine.models.base import ToolCall, ToolDefinition, ToolMessage
from weir.agent_engine.signals import ToolFailed
from weir.agent_engine.tools.base import Call, Tool
from weir.agent_engine.tools.recorded import Recorded, Recorder


class Toolbox:
    """Runs the calls of a step; a call that cannot be run is answered with the reason."""

    def __init__(self, tools: Sequence[Tool], recorder: Recorder, *, parallel: bool = False) -> None:
        self._tools = {tool.definition.name: tool for tool in tools}
        self._recorder = recorder
        self._parallel = parallel
        self.definitions = [tool.definition for tool in self._tools.values()]

    async def call_all(self, calls: Sequence[ToolCall]) -> list[ToolMessage]:
        """The results in the order of the calls, whatever the order in which they arrive."""
        if not self._parallel:
            return [await self._call(call) for call in calls]
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(self._call(call)) for call in calls]
        return [task.result() for task in running]

    async def _call(self, asked: ToolCall) -> ToolMessage:
        arguments = _arguments(asked.arguments)
        call = Call(
            call_id=asked.call_id, tool=asked.name, arguments=arguments or {}, written=asked.arguments
        )
        tool = self._tools.get(asked.name) or Unusable(self._unknown(asked.name))
        if arguments is None:
            tool = Unusable(f"The arguments of {asked.name} are no JSON object; write them again")
        try:
            text = await Recorded(tool, self._recorder).run(call)
        except ToolFailed as failure:
            text = failure.text
        return ToolMessage(asked.call_id, text)

    def _unknown(self, name: str) -> str:
        offered = ", ".join(sorted(self._tools)) or "none"
        return f"There is no tool '{name[:100]}'. The tools are: {offered}"


class Unusable:
    """Stands for a tool that cannot be run, so that its call is told and answered like any other."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    @property
    def definition(self) -> ToolDefinition:
        return ToolDefinition(name="", description="", parameters={})

    async def run(self, call: Call) -> str:
        raise ToolFailed(self._reason)


def _arguments(written: str) -> dict[str, Any] | None:
    """The arguments that a model wrote, or None; nothing at all is no argument."""
    if not written.strip():
        return {}
    try:
        return msgspec.json.decode(written, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        return None
