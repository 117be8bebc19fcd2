"""The doorbell: rings are single while they wait, notices reach every process, an outage harms nobody."""

import asyncio
import uuid

import pytest
from tests.serving import free_port

from weir_shared.queue import doorbell as module
from weir_shared.queue.doorbell import QUEUE, Doorbell, open_doorbell, pack, unpack


async def test_the_same_ring_twice_is_one_job(doorbell: Doorbell) -> None:
    key = uuid.uuid4().hex
    for _ in range(2):
        await doorbell.ring("test.look", key=key, tenant_id="t")
    waiting = [job async for job in _ids(doorbell) if key in job]
    assert waiting == [f"test.look:{key}"]
    await doorbell.redis.zrem(QUEUE, f"test.look:{key}")


async def test_a_notice_wakes_those_who_wait_for_it_and_nobody_else(
    doorbell: Doorbell, redis_url: str
) -> None:
    other = await open_doorbell(redis_url)
    topic = uuid.uuid4().hex
    async with doorbell.awaiting(topic) as woken, doorbell.awaiting(topic + "x") as asleep:
        for _ in range(50):
            await other.notify(topic)
            if woken.is_set():
                break
            await asyncio.sleep(0.02)
        assert woken.is_set()
        assert not asleep.is_set()
    await other.close()


async def test_a_ring_into_the_void_is_no_fault_of_the_request(
    monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    bell = await open_doorbell(redis_url)
    bell.redis.connection_pool.connection_kwargs["port"] = free_port()
    await bell.redis.connection_pool.disconnect()
    monkeypatch.setattr(module, "RECONNECT_SECONDS", 0.01)
    await asyncio.wait_for(bell.ring("test.look", key="k"), 5)
    await asyncio.wait_for(bell.notify("topic"), 5)
    await bell.close()


def test_jobs_travel_as_plain_data_never_as_code() -> None:
    assert unpack(pack({"t": 1, "a": ("x",), "k": {"n": None}})) == {"t": 1, "a": ["x"], "k": {"n": None}}
    assert unpack(pack({"r": ValueError("lost")})) == {"r": "lost"}


async def _ids(bell: Doorbell):
    for job in await bell.redis.zrange(QUEUE, 0, -1):
        yield job.decode()
