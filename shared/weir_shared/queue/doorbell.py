"""Ringing the worker, and telling whoever waits that something has changed.

Nothing here is the truth: a ring that is lost is rung again by a sweep, a notice that is lost is found by polling.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import structlog
from arq.connections import ArqRedis, RedisSettings, create_pool
from redis.exceptions import RedisError

QUEUE = "weir:queue"
NOTICES = "weir:notice:"
RECONNECT_SECONDS = 1.0
# A Redis that takes a command and says nothing is away; nobody waits longer for what is not the truth.
ANSWER_SECONDS = 1.0

log = structlog.get_logger(__name__)


def redis_settings(url: str) -> RedisSettings:
    settings = RedisSettings.from_dsn(url)
    settings.conn_timeout = 5
    settings.conn_retries = 3
    settings.conn_retry_delay = 1
    return settings


def pack(value: Any) -> bytes:
    """How jobs are written: msgpack, never pickle, which would run what a stranger put into Redis."""
    # arq passes the exception of a failed job as it is; its text is all that may travel.
    return msgspec.msgpack.encode(value, enc_hook=str)


def unpack(content: bytes) -> Any:
    return msgspec.msgpack.decode(content)


class Doorbell:
    """Rings jobs and sends notices."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._listener: asyncio.Task[None] | None = None

    @property
    def redis(self) -> ArqRedis:
        return self._redis

    async def ring(self, job: str, *, key: str, **arguments: Any) -> None:
        """Asks a worker to look at something; the same key while it still waits is one ring."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._redis.enqueue_job(job, _job_id=f"{job}:{key}", _queue_name=QUEUE, **arguments)
        except (RedisError, OSError) as fault:
            log.warning("doorbell unreachable, the sweep will ring", job=job, fault=str(fault))

    async def notify(self, topic: str) -> None:
        """Wakes everyone, in any process, who waits for the topic."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._redis.publish(NOTICES + topic, b"")
        except (RedisError, OSError) as fault:
            log.warning("notice not sent, pollers will find it", topic=topic, fault=str(fault))

    @asynccontextmanager
    async def awaiting(self, topic: str) -> AsyncGenerator[asyncio.Event, None]:
        """An event that a notice of the topic sets. Look at the row after entering, then wait with a time-out."""
        event = asyncio.Event()
        self._waiting[topic].add(event)
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen())
        try:
            yield event
        finally:
            self._waiting[topic].discard(event)
            if not self._waiting[topic]:
                del self._waiting[topic]

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            with suppress(asyncio.CancelledError):
                await self._listener
        await self._redis.aclose()

    async def _listen(self) -> None:
        """One subscription for all the waiters of this process."""
        while True:
            try:
                async with self._redis.pubsub() as subscription:
                    await subscription.psubscribe(NOTICES + "*")
                    async for message in subscription.listen():
                        self._wake(message)
            except (RedisError, OSError) as fault:
                log.warning("notices interrupted", fault=str(fault))
                await asyncio.sleep(RECONNECT_SECONDS)

    def _wake(self, message: dict[str, Any]) -> None:
        if message["type"] != "pmessage":
            return
        topic = message["channel"].decode().removeprefix(NOTICES)
        for event in self._waiting.get(topic, ()):
            event.set()


async def open_doorbell(redis_url: str) -> Doorbell:
    redis = await create_pool(redis_settings(redis_url), job_serializer=pack, job_deserializer=unpack)
    return Doorbell(redis)
