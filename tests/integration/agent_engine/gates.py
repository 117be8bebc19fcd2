"""A turn that waits at a gate, for the tests of gates: started, watched, answered."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.integration.agent_engine.conftest import Caller, Frame, Streamed

TABLE = {"output_type": "summary_table", "title": "Laptops", "rows": [{"label": "ProBook", "value": "849"}]}
GATED = {"tools": ["show_structured_output"], "confirm_before": ["show_structured_output"]}


class LiveTurn:
    """A turn whose events are collected while it runs."""

    def __init__(self, caller: Caller, schema: str, session_id: str) -> None:
        self.session_id = session_id
        self.frames: list[Frame] = []
        self._caller = caller
        self._task = asyncio.create_task(self._collect(schema))

    async def asked(self, count: int = 1) -> list[dict[str, Any]]:
        """The confirmations, once there are so many."""
        async with asyncio.timeout(10):
            while True:
                found = [frame.data for frame in self.frames if frame.event == "confirmation"]
                if len(found) >= count:
                    return found
                assert not self._task.done(), [frame.event for frame in self.frames]
                await asyncio.sleep(0.01)

    async def end(self) -> Streamed:
        async with asyncio.timeout(10):
            await self._task
        return Streamed(self.frames)

    def leave(self) -> None:
        self._task.cancel()

    async def _collect(self, schema: str) -> None:
        body = {"message": "go", "session_id": self.session_id}
        async with self._caller.streaming(f"/schemas/{schema}/chat", body) as frames:
            async for frame in frames:
                self.frames.append(frame)


@asynccontextmanager
async def live(caller: Caller, schema: str, session_id: str = "") -> AsyncIterator[LiveTurn]:
    turn = LiveTurn(caller, schema, session_id or str(uuid.uuid4()))
    try:
        yield turn
    finally:
        turn.leave()


async def answer(caller: Caller, status: int, session_id: str, call_id: str, *answers: str) -> Any:
    body = {"call_id": call_id, "answers": list(answers)}
    return await caller.ask(status, "POST", f"/sessions/{session_id}/respond", body)
