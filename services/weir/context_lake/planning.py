"""Planning views over columns alone, in a process of the runtime's program that may die of it.

The desk has no engine; a planner of its own has neither data nor secrets, so tenants take turns in one. It is
started when it is first needed, ended when it has had nothing to do for a while, and killed when a view takes
it too long: then that view is told of, and the next one has a new planner.
"""

import asyncio
import base64
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec
import structlog
from msgspec import Struct

from weir.context_lake.document import View

MODULE = "weir.lake_runtime.planner"
VIEW_SECONDS = 5.0
START_SECONDS = 20.0
IDLE_SECONDS = 300.0
LINE_BYTES = 4 * 1024 * 1024

log = structlog.get_logger(__name__)


class PlannerUnavailable(Exception):
    """No planner could be started."""


class Planned(Struct, frozen=True):
    """A view's columns, or why it has none."""

    columns: list[str] | None = None
    error: str | None = None
    code: str | None = None


COSTLY = Planned(error="The statement takes too much to plan", code="query_too_complex")


class Planner:
    """One planner process at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._idle: asyncio.TimerHandle | None = None

    async def plan(self, schemas: Mapping[str, bytes], views: Sequence[View]) -> list[Planned | None]:
        """The views' columns, or faults, in their order, which must be one of dependency.

        None is a view that was not looked at, because one before it has ended the planner.

        Raises PlannerUnavailable.
        """
        shown = {name: base64.b64encode(schema).decode() for name, schema in schemas.items()}
        wanted = {"schemas": shown, "views": [{"name": view.name, "sql": view.sql} for view in views]}
        request = msgspec.json.encode(wanted) + b"\n"
        async with self._turn:
            if self._idle is not None:
                self._idle.cancel()
            try:
                return await self._ask(request, len(views))
            except BaseException:
                # Left in the middle of an answer: nobody else may read the rest of it.
                await self._end()
                raise
            finally:
                self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._kill)

    async def close(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        await self._end()

    async def _ask(self, request: bytes, count: int) -> list[Planned | None]:
        process = await self._started()
        assert process.stdin is not None and process.stdout is not None
        answers: list[Planned | None] = []
        # Large requests are taken while the first answers come.
        sending = asyncio.ensure_future(_send(process.stdin, request))
        try:
            while len(answers) < count:
                async with asyncio.timeout(VIEW_SECONDS):
                    line = await process.stdout.readline()
                if not line:
                    raise EOFError
                answers.append(msgspec.json.decode(line, type=Planned))
        except (TimeoutError, EOFError, ValueError):
            log.warning("planner lost", planned=len(answers), wanted=count)
            await self._end()
            answers.append(COSTLY)
            answers += [None] * (count - len(answers))
        finally:
            sending.cancel()
        return answers

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        try:
            # Not with the environment of the desk, which holds the database's address.
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                MODULE,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={"PYTHONPATH": ":".join(filter(None, sys.path)), "LANG": "C.UTF-8", "TZ": "UTC"},
                limit=LINE_BYTES,
            )
            assert process.stdin is not None and process.stdout is not None
            # An empty request has no answer; one without tables says that the engine is loaded.
            process.stdin.write(b'{"schemas":{},"views":[{"name":"v","sql":"select 1 as x"}]}\n')
            async with asyncio.timeout(START_SECONDS):
                if not await process.stdout.readline():
                    raise EOFError
        except (OSError, EOFError, TimeoutError) as fault:
            await self._end()
            raise PlannerUnavailable(type(fault).__name__) from None
        return process

    async def _end(self) -> None:
        process = self._process
        self._kill()
        if process is not None:
            await process.wait()

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()


async def _send(stream: asyncio.StreamWriter, request: bytes) -> None:
    stream.write(request)
    with suppress(OSError):
        await stream.drain()  # a planner that has died is told of by its missing answer
