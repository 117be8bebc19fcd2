"""The poller's manners: few connections for many queues, shares among workers, patience with a service in trouble."""

import asyncio
import contextlib
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.conftest import migrated_database
from tests.integration.context_lake.conftest import eventually

from weir.context_lake.notifications import polling
from weir.context_lake.notifications.polling import ASLEEP_POLLS, AWAKE_POLLS, Poller
from weir.context_lake.notifications.queues import Message, QueueServiceFailed
from weir.context_lake.tables import lake_notifications, lake_pollers
from weir.context_lake.tables.lake_notifications import Notification
from weir_shared.db.pool import Database, open_database

TENANTS = 1000


class CountedQueues:
    """Stands in for the queue service: keeps polls as long as the service would, and counts them."""

    def __init__(self) -> None:
        self.under_way = 0
        self.most = 0
        self.polls: Counter[str] = Counter()
        self.waits: Counter[int] = Counter()
        self.messages: dict[str, list[Message]] = {}
        self.deleted: list[str] = []
        self.fails = False

    async def receive(
        self, region: str, queue_url: str, *, wait_seconds: int, hidden_seconds: int
    ) -> list[Message]:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.polls[queue_url] += 1
        self.waits[wait_seconds] += 1
        try:
            if self.fails:
                raise QueueServiceFailed("it is in trouble")
            await asyncio.sleep(wait_seconds or 0.002)
            return self.messages.pop(queue_url, [])
        finally:
            self.under_way -= 1

    async def delete(self, region: str, queue_url: str, messages: list[Message]) -> None:
        self.deleted += [message.id for message in messages]

    async def count(self, region: str, queue_url: str) -> int:
        return 0


@pytest.fixture(scope="module")
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    """A database of these tests' own: a worker that other tests have started would take its share of the queues."""
    async with migrated_database(postgres_dsn) as dsn:
        opened = await open_database(dsn)
        yield opened
        await opened.close()


@pytest.fixture
async def tenants(database: Database) -> AsyncIterator[list[str]]:
    """A thousand tenants with a queue each and no runtime."""
    ids = [str(uuid.uuid4()) for _ in range(TENANTS)]
    async with database.any_tenant() as connection:
        await connection.execute("delete from lake_pollers")
        await connection.execute("insert into tenants (id) select unnest($1::uuid[])", ids)
        for tenant_id in ids:
            await lake_notifications.keep(connection, notification(tenant_id))
    yield ids
    async with database.any_tenant() as connection:
        await connection.execute("delete from tenants where id = any($1::uuid[])", ids)


def notification(tenant_id: str) -> Notification:
    return Notification(
        tenant_id=tenant_id,
        name="sales",
        id=str(uuid.uuid4()),
        is_on=True,
        bucket="acme-lake",
        path="data/",
        format="parquet",
        ending="",
        account="",
        region="us-east-1",
        queue_arn="arn:aws:sqs:us-east-1:0:lake",
        queue_url=f"queue:{tenant_id}",
        dead_url="dead",
    )


async def wake(database: Database, ids: list[str]) -> None:
    async with database.any_tenant() as connection:
        await connection.execute(
            "insert into lake_vms (tenant_id, state) select unnest($1::uuid[]), 'running'", ids
        )


@asynccontextmanager
async def polled(database: Database, queues: Any) -> AsyncIterator[Poller]:
    poller = Poller(database, queues, quiet_seconds=0)
    task = asyncio.create_task(poller.run())
    try:
        yield poller
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def of(queues: CountedQueues, ids: list[str]) -> int:
    return sum(queues.polls[f"queue:{tenant_id}"] > 0 for tenant_id in ids)


async def test_a_thousand_tenants_asleep_cost_no_polling_connection_each(
    database: Database, tenants: list[str]
) -> None:
    queues = CountedQueues()
    async with polled(database, queues):

        async def all_asked() -> bool:
            return of(queues, tenants) == TENANTS

        await eventually(all_asked, within=30)
        assert queues.most <= ASLEEP_POLLS
        # Nobody waits at the service for a tenant that sleeps, and each is asked less and less.
        assert set(queues.waits) == {0}
        first = queues.polls.total()
        await asyncio.sleep(4)
        assert queues.polls.total() - first < 4 * TENANTS
    assert queues.under_way == 0


async def test_a_tenant_that_wakes_is_asked_at_once_and_goes_before_those_asleep(
    database: Database, tenants: list[str]
) -> None:
    queues = CountedQueues()
    async with polled(database, queues):
        await eventually(lambda: _true(of(queues, tenants) > 500), within=30)
        awake = tenants[:10]
        await wake(database, awake)
        await asyncio.sleep(1.5)
        record = {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": "acme-lake"}, "object": {"key": "data/a.parquet"}},
        }
        for tenant_id in awake:
            body = json.dumps({"Records": [record]})
            queues.messages[f"queue:{tenant_id}"] = [Message(id=tenant_id, receipt="r", body=body)]
        await eventually(lambda: _true(set(awake) <= set(queues.deleted)), within=polling.WAIT_SECONDS + 2)
        assert queues.waits[polling.WAIT_SECONDS] >= len(awake)


async def test_more_awake_than_places_are_asked_in_turn(database: Database, tenants: list[str]) -> None:
    queues = CountedQueues()
    awake = tenants[: 4 * AWAKE_POLLS]
    await wake(database, awake)
    async with polled(database, queues):
        await asyncio.sleep(4)
        assert queues.most <= AWAKE_POLLS + ASLEEP_POLLS
        assert min(queues.polls[f"queue:{tenant_id}"] for tenant_id in awake) >= 2
        assert set(queues.waits) == {0}


async def test_two_workers_share_the_queues(database: Database, tenants: list[str]) -> None:
    first, second = CountedQueues(), CountedQueues()
    async with polled(database, first), polled(database, second):

        async def both_known() -> bool:
            async with database.any_tenant() as connection:
                return await connection.fetchval("select count(*) from lake_pollers") == 2

        await eventually(both_known)
        await asyncio.sleep(2.5)
        first.polls.clear()
        second.polls.clear()
        await eventually(lambda: _true(of(first, tenants) + of(second, tenants) >= TENANTS), within=30)
        assert not set(first.polls) & set(second.polls)
        assert min(of(first, tenants), of(second, tenants)) > TENANTS / 4
    async with database.any_tenant() as connection:
        assert await connection.fetchval("select count(*) from lake_pollers") == 0


async def test_a_worker_that_died_leaves_its_share_to_the_others(database: Database) -> None:
    dead, living = str(uuid.uuid4()), str(uuid.uuid4())
    async with database.any_tenant() as connection:
        await connection.execute("delete from lake_pollers")
        await lake_pollers.take_share_any(connection, dead)
        assert (await lake_pollers.take_share_any(connection, living))[1] == 2
        await connection.execute(
            "update lake_pollers set seen_at = now() - make_interval(secs => $2) where id = $1",
            dead,
            lake_pollers.GONE_SECONDS + 1.0,
        )
        assert await lake_pollers.take_share_any(connection, living) == (0, 1)
        await lake_pollers.leave_any(connection, living)


async def test_a_service_in_trouble_is_asked_less_and_less(
    database: Database, tenants: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queues = CountedQueues()
    queues.fails = True
    await wake(database, tenants[:1])
    async with polled(database, queues) as poller:
        await asyncio.sleep(5)
        # At 0, 1, 3 and 7 seconds; never more than half a minute apart.
        assert 2 <= queues.polls[f"queue:{tenants[0]}"] <= 4
        [rota] = [r for r in poller._rotas.values() if r.queue.tenant_id == tenants[0]]
        for _ in range(20):
            poller._put_off(rota, "")
        assert rota.due - poller._clock() <= polling.FAULT_MOST_SECONDS
        queues.fails = False
        rota.due = 0.0
        before = queues.polls[f"queue:{tenants[0]}"]
        await eventually(lambda: _true(queues.polls[f"queue:{tenants[0]}"] > before + 1), within=8)


async def test_what_cannot_be_written_down_stays_in_the_queue(
    database: Database, tenants: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queues = CountedQueues()
    await wake(database, tenants[:1])
    message = Message(id="kept", receipt="r", body=json.dumps({"Records": []}))
    bucketed = json.dumps(
        {
            "Records": [
                {
                    "eventSource": "aws:s3",
                    "eventName": "ObjectCreated:Put",
                    "s3": {"bucket": {"name": "acme-lake"}, "object": {"key": "data/a.parquet"}},
                }
            ]
        }
    )
    queues.messages[f"queue:{tenants[0]}"] = [Message(id="lost?", receipt="r", body=bucketed), message]

    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("in the middle of the transaction")

    monkeypatch.setattr(lake_notifications, "note_events", broken)
    async with polled(database, queues):
        await eventually(lambda: _true(queues.polls[f"queue:{tenants[0]}"] > 0), within=10)
        await asyncio.sleep(4)
        assert queues.deleted == []
    async with database.tenant(tenants[0]) as connection:
        known = await lake_notifications.list_notifications(connection, tenants[0])
        entered = await connection.fetchval(
            "select count(*) from lake_event_ledger where tenant_id = $1", tenants[0]
        )
    assert (known["sales"].event_count, entered) == (0, 0)


async def test_whoever_stops_takes_what_a_poll_under_way_still_brings(
    database: Database, tenants: list[str]
) -> None:
    queues = CountedQueues()
    await wake(database, tenants[:1])
    async with polled(database, queues):
        await eventually(lambda: _true(queues.waits[polling.WAIT_SECONDS] > 0), within=10)
        body = json.dumps({"Records": []})
        queues.messages[f"queue:{tenants[0]}"] = [Message(id="late", receipt="r", body=body)]
    assert (queues.deleted, queues.under_way) == (["late"], 0)


async def _true(value: bool) -> bool:
    return value
