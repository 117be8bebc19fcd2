"""A tool that is recorded: its call is told and kept before it runs, and its result or failure told after."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from weir.agent_engine.events import TooMuchSaid
from weir.agent_engine.models.base import ToolDefinition
from weir.agent_engine.signals import ToolFailed, TurnGone
from weir.agent_engine.tools.base import Call, Tool
from weir_shared.errors import WeirError

UNDONE = "[ERROR] This call was ended before it was done: the turn's time was up, or it was stopped"

log = structlog.get_logger(__name__)


class Recorder(Protocol):
    """Who wants to know of calls and what became of them."""

    def called(self, call: Call) -> None: ...

    def returned(self, call: Call, text: str, *, has_error: bool, milliseconds: int) -> None: ...


class Recorded:
    """Whatever goes wrong inside becomes ToolFailed, so that every call has its result."""

    def __init__(self, tool: Tool, recorder: Recorder, keep: Callable[[], Awaitable[None]]) -> None:
        self._tool = tool
        self._recorder = recorder
        self._keep = keep

    @property
    def definition(self) -> ToolDefinition:
        return self._tool.definition

    async def run(self, call: Call) -> str:
        self._recorder.called(call)
        started = time.perf_counter()
        try:
            # Written down before it has an effect: a process that dies in the midst leaves no call unknown.
            await self._keep()
            text, failure = await self._run(call), None
        except ToolFailed as signal:
            text, failure = signal.text, signal
        except (asyncio.CancelledError, WeirError):
            self._tell(call, UNDONE, started, has_error=True)
            raise
        self._tell(call, text, started, has_error=failure is not None)
        if failure is not None:
            raise failure
        return text

    def _tell(self, call: Call, text: str, started: float, *, has_error: bool) -> None:
        milliseconds = round((time.perf_counter() - started) * 1000)
        self._recorder.returned(call, text, has_error=has_error, milliseconds=milliseconds)

    async def _run(self, call: Call) -> str:
        try:
            return await self._tool.run(call)
        except (ToolFailed, TooMuchSaid, TurnGone):
            raise
        except WeirError as fault:
            raise ToolFailed(fault.message) from fault
        except Exception as fault:
            # A tool's bug is not the turn's: the model may go on without it.
            log.exception("tool failed", tool=call.tool)
            raise ToolFailed(f"{call.tool} failed for a reason that is not yours") from fault
