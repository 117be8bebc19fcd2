"""`weir up`: from nothing to a platform that answers, and back to nothing."""

import asyncio
import contextlib
import time
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from weir.onebox.console import Console
from weir.onebox.directories import held_data_directory, private_run_directory
from weir.onebox.errors import OneboxError
from weir.onebox.orphans import Orphanage
from weir.onebox.plan import (
    Addresses,
    OneboxSettings,
    ServiceSpec,
    plan_services,
    service_names,
    supervised,
    weir_program,
)
from weir.onebox.ports import free_ports, require_free_port
from weir.onebox.postgres import EmbeddedPostgres
from weir.onebox.probes import require_database, require_redis
from weir.onebox.stop_requests import StopRequests
from weir.onebox.supervisor import EmbeddedServer, Supervisor
from weir.onebox.valkey import EmbeddedValkey
from weir.onebox.welcome import welcome
from weir_shared.settings import Settings, read_settings


class Steps(Struct, frozen=True, kw_only=True):
    """What the other rooms contribute to a start."""

    migrate: Callable[[str], Awaitable[object]]  # takes the address of the database
    # Runs with the demo only, once the gateway answers.
    seed: Callable[[Settings], Awaitable[None]] | None = None
    ready_text: Callable[[Settings], str] = welcome
    program: tuple[str, ...] = msgspec.field(default_factory=weir_program)


def run_up(settings: OneboxSettings, steps: Steps) -> int:
    """Runs until it is stopped; the exit code. This process must have nothing else to do."""
    orphanage = Orphanage()
    try:
        return asyncio.run(_up(settings, steps, Console(), orphanage))
    finally:
        orphanage.close()


async def _up(settings: OneboxSettings, steps: Steps, console: Console, orphanage: Orphanage) -> int:
    stop = StopRequests()
    data_dir = settings.data_dir.absolute()
    settings = msgspec.structs.replace(
        settings, data_dir=data_dir, import_root=settings.import_root.absolute()
    )
    try:
        require_free_port(settings.port, settings.host)
        with held_data_directory(data_dir):
            async with (
                _stopped_at_the_end(Supervisor(console), stop) as supervisor,
                _background(orphanage.reap_for_ever(supervisor.pids)),
            ):
                await _run(_start(settings, steps, console, supervisor), supervisor, stop)
    except OneboxError as error:
        console.fail(str(error))
        return 1
    except OSError as error:
        # A file where a directory belongs, a full disk, a right that is missing: the system names the place.
        where = error.filename or data_dir
        console.fail(f"{where} in the data directory cannot be used ({error.strerror or error}).")
        return 1
    console.say("weir stopped")
    return 0


async def _run(start: Coroutine[Any, Any, None], supervisor: Supervisor, stop: StopRequests) -> None:
    """Returns when the operator wants to stop; raises when the start fails or a service is past help."""
    async with _background(start) as starting, _background(stop.requested.wait()) as stopping:
        watched: set[asyncio.Future[Any]] = {starting, stopping, supervisor.failed}
        while True:
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if stopping in done:
                return
            if supervisor.failed in done:
                raise supervisor.failed.result()
            starting.result()
            watched.remove(starting)


async def _start(settings: OneboxSettings, steps: Steps, console: Console, supervisor: Supervisor) -> None:
    began = time.monotonic()
    console.say(f"weir is starting in {settings.data_dir}")
    run_dir = private_run_directory(settings.data_dir)
    database_url, redis_url = await _servers(settings, run_dir, console, supervisor)
    await _guarded("The database migrations failed", steps.migrate(database_url), settings.data_dir)
    console.progress("migrations", "done", began)

    names = [name for name in service_names(settings) if name != "gateway"]
    ports = {"gateway": settings.port, **dict(zip(names, free_ports(len(names)), strict=True))}
    addresses = Addresses(ports=ports, database_url=database_url, redis_url=redis_url, run_dir=run_dir)
    specs = plan_services(settings, addresses)
    await _together(*(_start_service(spec, steps.program, settings, console, supervisor) for spec in specs))

    # What the gateway was told, for those who speak to the platform or of it.
    told = read_settings(next(spec.env for spec in specs if spec.name == "gateway"))
    if settings.demo and steps.seed:
        await _guarded("The demo could not be set up", steps.seed(told), settings.data_dir)
        console.progress("demo", "ready", began)
    console.say(steps.ready_text(told))


async def _servers(
    settings: OneboxSettings, run_dir: Path, console: Console, supervisor: Supervisor
) -> tuple[str, str]:
    """The addresses of Postgres and Redis: the operator's own, or embedded ones that start side by side."""
    postgres = EmbeddedPostgres(settings.data_dir, run_dir)
    valkey = EmbeddedValkey(settings.data_dir, run_dir)
    await _together(
        require_database(settings.database_url)
        if settings.database_url
        else _start_server(postgres, console, supervisor),
        require_redis(settings.redis_url)
        if settings.redis_url
        else _start_server(valkey, console, supervisor),
    )
    return settings.database_url or postgres.dsn, settings.redis_url or valkey.url


async def _start_server(server: EmbeddedServer, console: Console, supervisor: Supervisor) -> None:
    began = time.monotonic()
    await server.prepare()
    service = server.service()
    await supervisor.start(service)
    console.progress(service.name, "ready", began)


async def _start_service(
    spec: ServiceSpec,
    program: tuple[str, ...],
    settings: OneboxSettings,
    console: Console,
    supervisor: Supervisor,
) -> None:
    began = time.monotonic()
    await supervisor.start(supervised(spec, program, settings.data_dir / "logs"))
    console.progress(spec.name, "ready" if spec.health_url else "started", began)


async def _together(*deeds: Coroutine[Any, Any, None]) -> None:
    """The first failure is the one that is told; the others are called off."""
    tasks = [asyncio.create_task(deed) for deed in deeds]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _guarded(failure: str, deed: Awaitable[object], data_dir: Path) -> None:
    """The boundary to another room's work: whatever it raises becomes a sentence, its trace goes to a file."""
    try:
        await deed
    except OneboxError:
        raise
    except Exception as error:
        log = data_dir / "logs" / "up.log"
        log.parent.mkdir(exist_ok=True)
        log.write_text(traceback.format_exc())
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise OneboxError(f"{failure}: {reason}. The whole trace is in {log}.") from error


@asynccontextmanager
async def _stopped_at_the_end(supervisor: Supervisor, stop: StopRequests) -> AsyncGenerator[Supervisor]:
    try:
        yield supervisor
    finally:
        async with _background(supervisor.stop()) as graceful, _background(stop.insisted.wait()) as insisted:
            await asyncio.wait({graceful, insisted}, return_when=asyncio.FIRST_COMPLETED)
        await supervisor.kill()


@asynccontextmanager
async def _background(deed: Coroutine[Any, Any, Any]) -> AsyncGenerator[asyncio.Task[Any]]:
    """A task that ends with the block."""
    task = asyncio.create_task(deed)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])
