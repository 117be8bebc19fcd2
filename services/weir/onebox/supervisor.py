"""Keeps named processes running: starts them, waits until they are ready, starts them again, stops them in order."""

import asyncio
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from msgspec import Struct

from weir.onebox.child import Child, Command, ending, rotate_log, start_child
from weir.onebox.console import Console
from weir.onebox.errors import OneboxError

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
_STEADY_SECONDS = 30.0  # a life this long makes an ending an accident, not a pattern
_START_UP_SECONDS = 20.0
_POLL_SECONDS = 0.03
# Postgres and Valkey: everything leans on them.
SERVERS_STOP = 9
# A stop of the whole machine or unit signals the services at the moment we hear of it too: look twice before calling it a crash.
_SETTLE_SECONDS = 0.1


class Service(Struct, frozen=True, kw_only=True):
    """A process that should be running."""

    name: str
    command: Command
    before_start: Callable[[], Awaitable[None]] | None = None
    ready: Callable[[], Awaitable[bool]] | None = None
    ready_seconds: float = 30.0
    stop_signal: int = signal.SIGTERM
    grace_seconds: float = 20.0
    # So many endings within its first 20 s, and we give up; 1: a server that refuses its data will refuse it again.
    start_attempts: int = 5
    # The lowest number stops first, those of one number together: whoever is leaned on stops later.
    stop_order: int = 0
    # What to do when it cannot start, appended to the sentence.
    advice: str = ""


class EmbeddedServer(Protocol):
    """Postgres or Valkey: something to prepare, then a service."""

    async def prepare(self) -> None: ...

    def service(self) -> Service: ...


class _Watched:
    def __init__(self, service: Service, ready: asyncio.Future[None]) -> None:
        self.service = service
        self.ready = ready
        self.child: Child | None = None
        self.watch: asyncio.Task[None] | None = None


class Supervisor:
    """`failed` holds the sentence once a service that was ready cannot be kept running."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._watched: dict[str, _Watched] = {}
        self.failed: asyncio.Future[OneboxError] = asyncio.get_running_loop().create_future()

    async def start(self, service: Service) -> None:
        """Returns when it is ready (at once when it has no way to tell); OneboxError when it gave up."""
        rotate_log(service.command.log)
        watched = _Watched(service, asyncio.get_running_loop().create_future())
        self._watched[service.name] = watched
        watched.watch = asyncio.create_task(self._keep_running(watched))
        await watched.ready

    async def stop(self) -> None:
        """Everything, layer by layer; what has not had its turn yet is still kept running."""
        for order in sorted({watched.service.stop_order for watched in self._watched.values()}):
            layer = [watched for watched in self._watched.values() if watched.service.stop_order == order]
            await asyncio.gather(*(_stop(watched) for watched in layer))

    async def kill(self) -> None:
        """Everything at once, without grace."""
        await asyncio.gather(*(_kill(watched) for watched in self._watched.values()))

    def pids(self) -> set[int]:
        """The children that it waits for itself."""
        return {watched.child.pid for watched in self._watched.values() if watched.child}

    async def _keep_running(self, watched: _Watched) -> None:
        first_start = time.monotonic()
        pause, endings = _FIRST_PAUSE_SECONDS, 0
        try:
            while True:
                started = time.monotonic()
                child = await self._run_once(watched)
                await asyncio.sleep(_SETTLE_SECONDS)
                if time.monotonic() - started >= _STEADY_SECONDS:
                    pause = _FIRST_PAUSE_SECONDS
                endings += 1
                starting_up = (
                    time.monotonic() - first_start < _START_UP_SECONDS and watched.service.ready is None
                )
                if endings >= watched.service.start_attempts and (starting_up or not watched.ready.done()):
                    raise OneboxError(_obituary(watched.service, child, endings))
                self._console.say(
                    f"  {watched.service.name} ended ({ending(child.returncode or 0)}); starting it again in {pause:.1f} s"
                )
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        except OneboxError as error:
            self._give_up(watched, error)

    async def _run_once(self, watched: _Watched) -> Child:
        if watched.service.before_start:
            await watched.service.before_start()
        child = watched.child = await start_child(watched.service.command)
        if not watched.ready.done():
            await _wait_until_ready(watched, child)
        await child.wait()
        return child

    def _give_up(self, watched: _Watched, error: OneboxError) -> None:
        if not watched.ready.done():
            watched.ready.set_exception(error)
        elif not self.failed.done():
            self.failed.set_result(error)


@asynccontextmanager
async def running(*servers: EmbeddedServer) -> AsyncGenerator[None]:
    """The embedded servers alone, for the length of a block: for tests and tools that need a real one."""
    supervisor = Supervisor(Console())
    try:
        for server in servers:
            await server.prepare()
            await supervisor.start(server.service())
        yield
    finally:
        await supervisor.stop()


async def _wait_until_ready(watched: _Watched, child: Child) -> None:
    """Returns also when the child ends first."""
    service, deadline = watched.service, time.monotonic() + watched.service.ready_seconds
    while service.ready and not await service.ready():
        if child.returncode is not None:
            return
        if time.monotonic() > deadline:
            raise OneboxError(
                f"{service.name} was not ready after {service.ready_seconds:.0f} s; its log is {service.command.log}."
            )
        await asyncio.sleep(_POLL_SECONDS)
    if not watched.ready.done():  # whoever waited for it may have been called off
        watched.ready.set_result(None)


def _obituary(service: Service, child: Child, endings: int) -> str:
    times = f" {endings} times" if endings > 1 else ""
    said = child.last_words()
    why = f"{ending(child.returncode or 0)}: {said}" if said else ending(child.returncode or 0)
    advice = f" {service.advice}" if service.advice else ""
    return f"{service.name} ended{times} while starting ({why}).{advice} Its log is {service.command.log}."


async def _stop(watched: _Watched) -> None:
    await _unwatch(watched)
    if watched.child:
        await watched.child.stop(watched.service.stop_signal, watched.service.grace_seconds)


async def _kill(watched: _Watched) -> None:
    await _unwatch(watched)
    if watched.child:
        await watched.child.kill()


async def _unwatch(watched: _Watched) -> None:
    """From here on nobody starts it again; a start that is under way is undone by its cancellation."""
    if watched.watch:
        watched.watch.cancel()
        await asyncio.wait([watched.watch])
