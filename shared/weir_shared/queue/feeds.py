"""What one process tells another: letters to its address, and feeds that are read while they grow.

Nothing here is the truth: a letter may be lost and a feed may be gone, and whoever waits looks into the ledger.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import structlog
from arq.connections import ArqRedis
from msgspec import MsgspecError, Struct
from redis.exceptions import RedisError

from weir_shared.queue.doorbell import ANSWER_SECONDS, RECONNECT_SECONDS, pack, unpack

ADDRESSES = "weir:letters:"
FEEDS = "weir:feed:"
# A feed that grows no more is gone after so long.
KEPT_SECONDS = 60

log = structlog.get_logger(__name__)


class Piece(Struct, frozen=True):
    """One piece of a feed, and the place after which reading goes on."""

    feed: str
    place: str
    content: Any


class Feeds:
    """The post between processes: letters are published, feeds are streams."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis

    async def send(self, address: str, letter: Any) -> int:
        """How many have received it: 0 when nobody listens there."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return int(await self._redis.publish(ADDRESSES + address, pack(letter)))
        except (RedisError, OSError) as fault:
            log.warning("letter not sent", fault=str(fault))
            return 0

    async def letters(self, address: str) -> AsyncGenerator[Any, None]:
        """Everything that is sent to the address from now on; goes on by itself when the connection breaks."""
        while True:
            try:
                async with self._redis.pubsub() as subscription:
                    await subscription.subscribe(ADDRESSES + address)
                    async for message in subscription.listen():
                        if message["type"] == "message":
                            yield unpack(message["data"])
            except (RedisError, OSError) as fault:
                log.warning("letters interrupted", fault=str(fault))
            except MsgspecError as fault:
                log.warning("letter is not readable", fault=str(fault))
            await asyncio.sleep(RECONNECT_SECONDS)

    async def open(self, feed: str) -> None:
        """Begins a feed anew."""
        await self._quietly(self._redis.unlink(FEEDS + feed))

    async def append(self, feed: str, content: Any) -> None:
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xadd(FEEDS + feed, {"c": pack(content)})
            pipeline.expire(FEEDS + feed, KEPT_SECONDS)
            await self._quietly(pipeline.execute())

    async def read(self, places: Mapping[str, str], *, wait_seconds: float) -> list[Piece]:
        """What the feeds hold after their places; waits a little when that is nothing."""
        streams: dict[Any, Any] = {FEEDS + feed: place for feed, place in places.items()}
        try:
            async with asyncio.timeout(wait_seconds + ANSWER_SECONDS):
                found = await self._redis.xread(streams, block=round(wait_seconds * 1000))
        except (RedisError, OSError) as fault:
            log.warning("feeds not read", fault=str(fault))
            await asyncio.sleep(RECONNECT_SECONDS)
            return []
        return [
            Piece(name.decode().removeprefix(FEEDS), place.decode(), unpack(fields[b"c"]))
            for name, entries in found or ()
            for place, fields in entries
        ]

    async def _quietly(self, command: Any) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await command
        except (RedisError, OSError) as fault:
            log.warning("feed not written", fault=str(fault))
