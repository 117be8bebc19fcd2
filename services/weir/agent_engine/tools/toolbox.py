"""The tools of one turn: what the model is offered, and what becomes of its calls."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from weir.agent_engine.models.base import ToolCall, ToolDefinition, ToolMessage
from weir.agent_engine.signals import ToolFailed
from weir.agent_engine.tools.arguments import arguments_of
from weir.agent_engine.tools.base import Call, Tool
from weir.agent_engine.tools.gated import Gated
from weir.agent_engine.tools.recorded import UNDONE, Recorded, Recorder

CUT_OFF = (
    "Your answer was cut off at its greatest length within this call; it was not run. Write a shorter one"
)


class Toolbox:
    """Runs the calls of a step; a call that cannot be run is answered with the reason."""

    def __init__(
        self,
        tools: Sequence[Tool],
        recorder: Recorder,
        keep: Callable[[], Awaitable[None]],
        *,
        parallel: bool = False,
    ) -> None:
        """`keep` writes down the calls that the recorder was told of."""
        self._tools = {tool.definition.name: tool for tool in tools}
        self._recorder = recorder
        self._keep = keep
        self._parallel = parallel
        self._results: dict[str, str] = {}
        self.definitions = [tool.definition for tool in self._tools.values()]

    async def call_all(self, calls: Sequence[ToolCall], *, is_cut_off: bool = False) -> list[ToolMessage]:
        """The results in the order of the calls, whatever the order in which they arrive.

        Of an answer that was cut off the last call is not run, whole as it may look.
        """
        self._results = {}
        whole = len(calls) - is_cut_off
        if not self._parallel:
            for place, call in enumerate(calls):
                await self._call(call, is_whole=place < whole)
            return self.results_of(calls)
        try:
            async with asyncio.TaskGroup() as group:
                for place, call in enumerate(calls):
                    group.create_task(self._call(call, is_whole=place < whole))
        except ExceptionGroup as faults:
            # Whatever ends one call beyond a failure ends them all, and is told as itself.
            raise faults.exceptions[0] from None
        return self.results_of(calls)

    def results_of(self, calls: Sequence[ToolCall]) -> list[ToolMessage]:
        """The results of the step, as far as there are any by now."""
        return [ToolMessage(call.call_id, self._results.get(call.call_id, UNDONE)) for call in calls]

    async def _call(self, asked: ToolCall, *, is_whole: bool) -> None:
        arguments = arguments_of(asked.arguments)
        tool = self._tools.get(asked.name) or Unusable(self._unknown(asked.name))
        if not is_whole:
            tool = Unusable(CUT_OFF)
        elif arguments is None:
            tool = Unusable(f"The arguments of {asked.name} are no JSON object; write them again")
        # What a person answers to must not be guessed, nor be the id of an earlier call.
        call_id = tool.new_call_id() if isinstance(tool, Gated) else asked.call_id
        call = Call(call_id=call_id, tool=asked.name, arguments=arguments or {}, written=asked.arguments)
        try:
            text = await Recorded(tool, self._recorder, self._keep).run(call)
        except ToolFailed as failure:
            text = failure.text
        self._results[asked.call_id] = text

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
