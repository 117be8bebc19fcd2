"""One arq worker for the jobs of all rooms, their sweeps beside it, and a port for its metrics."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from types import ModuleType
from typing import Any

import structlog
import uvloop
from arq.worker import Worker, func
from redis.exceptions import RedisError

from weir.agent_engine import jobs as agent_engine_jobs
from weir.context_lake import jobs as context_lake_jobs
from weir.gateway import jobs as gateway_jobs
from weir.worker.metrics import served_metrics
from weir_shared.db.pool import DatabaseUnavailable
from weir_shared.queue.doorbell import QUEUE, pack, unpack
from weir_shared.queue.rounds import Sweep, open_tools
from weir_shared.settings import SettingError, Settings

# Each room's jobs module: `JOBS`, `SWEEPS` and `open_part`.
ROOMS: tuple[ModuleType, ...] = (context_lake_jobs, agent_engine_jobs, gateway_jobs)

POLL_SECONDS = 0.05
MAX_JOBS = 100
# A job in hand may end after SIGTERM; what is cut is found by the sweeps.
GRACE_SECONDS = 20

log = structlog.get_logger(__name__)


class PostRoomClosed(Exception):
    """The worker cannot go on; its supervisor starts it again."""


def run_worker(settings: Settings) -> int:
    """Works until SIGTERM or SIGINT and returns 0; returns 1 when it cannot go on, with the reason in the log."""
    if settings.database_url is None or settings.redis_url is None:
        raise SettingError("The worker needs WEIR_DATABASE_URL and WEIR_REDIS_URL; `weir up` sets both")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_work_until_told(settings))


@asynccontextmanager
async def open_context(settings: Settings) -> AsyncGenerator[dict[str, Any], None]:
    """What the jobs of every room find in their context."""
    async with AsyncExitStack() as stack:
        tools = await stack.enter_async_context(open_tools(settings))
        context: dict[str, Any] = {"doorbell": tools.doorbell}
        for room in ROOMS:
            context |= await stack.enter_async_context(room.open_part(tools))
        yield context


async def work(context: dict[str, Any]) -> None:
    """Collects jobs and makes rounds until it is cancelled. Raises PostRoomClosed when the doorbell is gone."""
    worker = build_worker(context)
    try:
        async with asyncio.TaskGroup() as group:
            for room in ROOMS:
                for sweep in room.SWEEPS:
                    group.create_task(_make_rounds(context, sweep))
            group.create_task(_collect(worker))
    except* (RedisError, OSError) as faults:
        raise PostRoomClosed(str(faults.exceptions[0])) from faults
    finally:
        await _finish(worker)


def build_worker(context: dict[str, Any]) -> Worker:
    jobs = [job for room in ROOMS for job in room.JOBS]
    return Worker(
        [func(job.run, name=job.name, timeout=job.seconds, keep_result=0, max_tries=1) for job in jobs],
        queue_name=QUEUE,
        redis_pool=context["doorbell"].redis,
        ctx=context,
        handle_signals=False,
        poll_delay=POLL_SECONDS,
        max_jobs=MAX_JOBS,
        keep_result=0,
        max_tries=1,
        job_serializer=pack,
        job_deserializer=unpack,
        log_results=False,
    )


async def _work_until_told(settings: Settings) -> int:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    try:
        async with served_metrics(settings.worker_url), open_context(settings) as context:
            working, waiting = asyncio.create_task(work(context)), asyncio.create_task(told.wait())
            await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if working.done():
                working.result()
            working.cancel()
            await asyncio.wait({working})
    except (PostRoomClosed, RedisError, DatabaseUnavailable, OSError) as fault:
        log.error("the worker cannot go on", reason=str(fault))
        return 1
    return 0


async def _collect(worker: Worker) -> None:
    await worker.main()
    raise PostRoomClosed("the queue has ended")


async def _make_rounds(context: dict[str, Any], sweep: Sweep) -> None:
    while True:
        try:
            await sweep.run(context)
        except Exception:
            # The boundary of a round: whatever happened to it, the next one is made.
            log.exception("round failed", sweep=sweep.run.__name__)
        await asyncio.sleep(sweep.every_seconds)


async def _finish(worker: Worker) -> None:
    """Lets the jobs in hand end, then cuts them."""
    worker.allow_pick_jobs = False
    tasks = list(worker.tasks.values())
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=GRACE_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
