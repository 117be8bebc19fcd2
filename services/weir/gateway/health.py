"""Is the platform well, and should this replica get traffic."""

import asyncio
import time
from collections.abc import Awaitable

import aiohttp
import msgspec
from msgspec import Struct

from weir import __version__
from weir_shared.auth.principal import ANONYMOUS
from weir_shared.auth.tickets import HEADER, TicketOffice
from weir_shared.clock import go_duration
from weir_shared.db.migrate import is_current
from weir_shared.db.pool import Database
from weir_shared.errors import WeirError
from weir_shared.queue.doorbell import Doorbell

CHECK_SECONDS = 2.0
# Health is public: however often it is asked, the rooms are asked this often.
CACHE_SECONDS = 1.0


class HealthReport(Struct, frozen=True, kw_only=True):
    """`status` is `ok` when every part answers; the parts say which one does not."""

    status: str
    version: str
    agents_count: int
    uptime: str
    database: str
    redis: str
    context_lake: str
    agent_engine: str


class Readiness(Struct, frozen=True, kw_only=True):
    """`redis` is told and does not count: without it the gateway still serves."""

    ready: bool
    database: str
    schema: str
    redis: str


class _AgentsCount(Struct, frozen=True):
    agents_count: int


class Health:
    """Asks the parts, for a moment's memory."""

    def __init__(
        self,
        *,
        database: Database,
        dsn: str,
        doorbell: Doorbell,
        session: aiohttp.ClientSession,
        tickets: TicketOffice,
        lake_url: str,
        engine_url: str,
    ) -> None:
        self._database = database
        self._dsn = dsn
        self._doorbell = doorbell
        self._session = session
        self._tickets = tickets
        self._lake_url = lake_url
        self._engine_url = engine_url
        self._started = time.monotonic()
        self._last: tuple[float, HealthReport] | None = None
        self._asking = asyncio.Lock()
        self._schema_current = False

    async def report(self) -> HealthReport:
        async with self._asking:
            if self._last is None or time.monotonic() - self._last[0] > CACHE_SECONDS:
                self._last = (time.monotonic(), await self._ask_all())
            return self._last[1]

    async def readiness(self) -> Readiness:
        database, redis = await asyncio.gather(_answers(self._database.ping()), _answers(self._ping_redis()))
        if database and not self._schema_current:
            self._schema_current = await _answers(self._check_schema())
        return Readiness(
            ready=database and self._schema_current,
            database=_word(database),
            schema="current" if self._schema_current else "behind",
            redis=_word(redis),
        )

    async def _ask_all(self) -> HealthReport:
        database, redis, lake, agents = await asyncio.gather(
            _answers(self._database.ping()),
            _answers(self._ping_redis()),
            _answers(self._ping_lake()),
            self._count_agents(),
        )
        well = database and lake and agents is not None
        return HealthReport(
            status="ok" if well else "degraded",
            version=__version__,
            agents_count=agents or 0,
            uptime=go_duration(time.monotonic() - self._started),
            database=_word(database),
            redis=_word(redis),
            context_lake=_word(lake),
            agent_engine=_word(agents is not None),
        )

    async def _ping_redis(self) -> None:
        await self._doorbell.redis.ping()

    async def _check_schema(self) -> None:
        if not await is_current(self._dsn):
            raise ConnectionError

    async def _ping_lake(self) -> None:
        async with self._session.get(self._lake_url + "/metrics") as response:
            response.raise_for_status()

    async def _count_agents(self) -> int | None:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                headers = {HEADER: self._tickets.issue(ANONYMOUS, "agent-engine")}
                async with self._session.get(
                    self._engine_url + "/internal/agents-count", headers=headers
                ) as response:
                    response.raise_for_status()
                    return msgspec.json.decode(await response.read(), type=_AgentsCount).agents_count
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError):
            return None


async def _answers(question: Awaitable[object]) -> bool:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await question
    except (aiohttp.ClientError, WeirError, TimeoutError, OSError):
        return False
    except Exception as fault:
        # redis and asyncpg have families of their own for a peer that is away.
        if type(fault).__module__.partition(".")[0] in ("redis", "asyncpg"):
            return False
        raise
    return True


def _word(answers: bool) -> str:
    return "ok" if answers else "unreachable"
