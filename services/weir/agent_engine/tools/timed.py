"""A tool that is timed: it ends in time, and how long it took is counted."""

import asyncio
import time

from weir.agent_engine.metrics import TOOL_CALLS, TOOL_SECONDS
from weir.agent_engine.models.base import ToolDefinition
from weir.agent_engine.signals import ToolFailed
from weir.agent_engine.tools.base import Call, Tool
from weir.agent_engine.tools.names import KNOWN
from weir.agent_engine.tools.spawn import PREFIX


class Timed:
    """Ends a call that takes longer than its seconds; None leaves it to the turn's own time."""

    def __init__(self, tool: Tool, *, seconds: float | None) -> None:
        self._tool = tool
        self._seconds = seconds

    @property
    def definition(self) -> ToolDefinition:
        return self._tool.definition

    async def run(self, call: Call) -> str:
        # What a tenant or a model names must not become a label.
        label = call.tool if call.tool in KNOWN else "spawn" if call.tool.startswith(PREFIX) else "other"
        started = time.perf_counter()
        status = "failed"
        try:
            async with asyncio.timeout(self._seconds):
                result = await self._tool.run(call)
            status = "completed"
            return result
        except TimeoutError:
            raise ToolFailed(f"{call.tool} did not answer within {self._seconds or 0:g} s") from None
        finally:
            TOOL_CALLS.labels(label, status).inc()
            TOOL_SECONDS.labels(label).observe(time.perf_counter() - started)
