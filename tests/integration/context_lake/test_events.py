"""From a message in a queue to counted events and fresh rows; and what messages cannot do."""

import asyncio
import json
import random
import uuid
from contextlib import suppress
from typing import Any

import pytest
from tests.integration.context_lake.buckets import Cloud
from tests.integration.context_lake.conftest import eventually
from tests.promises import Promise, size

from weir.context_lake.notifications.accepting import accept
from weir.context_lake.notifications.queues import Message
from weir.context_lake.tables import lake_event_ledger, lake_notifications, lake_refreshes
from weir.context_lake.tables.lake_notifications import Polled
from weir_shared.telemetry.metrics import REGISTRY

MOMENT = "2026-04-01T08:30:00.000Z"


@pytest.fixture(scope="session")
def cloud(moto_url: str) -> Cloud:
    return Cloud(moto_url)


class Watch:
    """One dataset over a folder of a bucket, and the queue that its changes come through."""

    def __init__(self, caller: Any, cloud: Cloud, bucket: str, arn: str) -> None:
        self.caller, self.cloud, self.bucket, self.arn = caller, cloud, bucket, arn

    async def status(self) -> dict[str, Any]:
        return (await self.caller.status())["datasets"]["sales"]

    async def counts(self, expected: int, within: float = 25) -> None:
        await eventually(lambda: self._counts(expected), within=within)

    async def taken(self, within: float = 25) -> None:
        """Every message has been dealt with."""

        async def is_empty() -> bool:
            return await asyncio.to_thread(self.cloud.depth, self.arn) == 0

        await eventually(is_empty, within=within)

    async def row(self) -> dict[str, Any]:
        async with self.caller.database.tenant(self.caller.tenant_id) as connection:
            row = await connection.fetchrow(
                "select * from lake_notifications where tenant_id = $1", self.caller.tenant_id
            )
        # When it was last listed, and how deep the dead letters are, is no message's doing.
        return {
            name: row[name] for name, _ in row.items() if name not in ("listed_at", "listing", "dead_count")
        }

    async def runs(self) -> list[str]:
        async with self.caller.database.tenant(self.caller.tenant_id) as connection:
            rows = await connection.fetch(
                "select trigger from lake_refresh_runs where tenant_id = $1", self.caller.tenant_id
            )
        return [row["trigger"] for row in rows]

    async def wishes(self) -> tuple[int, int]:
        async with self.caller.database.tenant(self.caller.tenant_id) as connection:
            row = await connection.fetchrow(
                "select wish, served from lake_refreshes where tenant_id = $1", self.caller.tenant_id
            )
        return (row["wish"], row["served"]) if row else (0, 0)

    async def polled(self) -> Polled:
        row = await self.row()
        return Polled(
            id=row["id"],
            tenant_id=row["tenant_id"],
            name=row["name"],
            region=row["region"],
            queue_url=row["queue_url"],
            dead_url=row["dead_url"],
            is_awake=False,
        )

    def record(self, key: str, **changes: Any) -> dict[str, Any]:
        item = {"key": key, "eTag": "9b2c", "sequencer": "0055AED6DCD90281E5"}
        item |= changes.pop("object", {})
        body = {
            "eventSource": "aws:s3",
            "eventTime": MOMENT,
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": changes.pop("bucket", self.bucket)}, "object": item},
        }
        return body | changes

    def send(self, *records: dict[str, Any]) -> None:
        self.cloud.send(self.arn, {"Records": list(records)})

    async def _counts(self, expected: int) -> bool:
        return (await self.status())["s3EventCount"] == expected


@pytest.fixture
async def watch(caller: Any, cloud: Cloud) -> Watch:
    bucket = cloud.bucket()
    body = {"params": {"file_format": "parquet"}, "notifications": True}
    told = (await caller.add("sales", f"s3://{bucket}/data/", **body))["notifications"]
    return Watch(caller, cloud, bucket, told["queueArn"])


async def test_the_status_of_a_new_dataset_counts_nothing(watch: Watch) -> None:
    status = await watch.status()
    assert status["notifications"] is True
    assert (status["s3EventCount"], status["s3LastEventAt"], status["s3LastRefreshAt"]) == (0, None, None)
    assert (status["notificationsState"], status["deadLetters"]) == ("pending", 0)


async def test_sqs_test_event_connects(watch: Watch) -> None:
    watch.cloud.connect(watch.bucket, watch.arn)

    async def is_connected() -> bool:
        return (await watch.status())["notificationsState"] == "connected"

    await eventually(is_connected, within=20)
    status = await watch.status()
    assert (status["s3EventCount"], status["s3LastEventAt"]) == (0, None)
    assert await watch.wishes() == (0, 0)


async def test_sqs_direct_plus_and_percent_keys_are_counted_and_read(watch: Watch) -> None:
    watch.cloud.connect(watch.bucket, watch.arn)
    watch.cloud.put(watch.bucket, "data/year=2026/data file+1%.parquet", 1, 2)
    await watch.counts(1)
    assert (await watch.wishes())[0] == 1
    assert (await watch.status())["notificationsState"] == "receiving"
    assert await watch.caller.rows("select count(*) as n from sales") == [{"n": 2}]


async def test_sqs_sns_wrapped_counts_like_what_it_wraps(watch: Watch) -> None:
    inner = json.dumps({"Records": [watch.record("data/a.parquet")]})
    watch.cloud.send(watch.arn, {"Type": "Notification", "TopicArn": "arn", "Message": inner})
    await watch.counts(1)
    assert (await watch.status())["s3LastEventAt"] == "2026-04-01T08:30:00Z"


async def test_sqs_eventbridge_verbatim_key_counts(watch: Watch) -> None:
    detail = {
        "bucket": {"name": watch.bucket},
        "object": {"key": "data/a+b c.parquet", "etag": "7", "sequencer": "00"},
    }
    event = {"source": "aws.s3", "detail-type": "Object Created", "time": MOMENT, "detail": detail}
    watch.cloud.send(watch.arn, event)
    await watch.counts(1)
    assert (await watch.wishes())[0] == 1


async def test_sqs_poison_to_dlq(watch: Watch) -> None:
    before = await watch.row()
    watch.cloud.send(watch.arn, "not json", {"hello": "there"}, {"Records": [{"eventSource": "aws:s3"}]})
    await watch.taken()
    assert watch.cloud.depth(watch.arn + "-dlq") == 3
    assert await watch.row() == before

    async def is_told() -> bool:
        return (await watch.status())["deadLetters"] == 3

    await eventually(is_told, within=10)


async def test_sqs_duplicate_counts_once(watch: Watch) -> None:
    before = value_of("weir_lake_sqs_duplicate_total")
    for _ in range(3):
        watch.send(watch.record("data/a.parquet"))
    watch.send(watch.record("data/a.parquet"), watch.record("data/a.parquet"))
    await watch.taken()
    assert (await watch.status())["s3EventCount"] == 1
    assert (await watch.wishes())[0] == 1
    assert value_of("weir_lake_sqs_duplicate_total") - before == 4


async def test_sqs_out_of_order_sequencer_counts_and_reads_nothing_again(watch: Watch) -> None:
    newer = watch.record("data/a.parquet", object={"sequencer": "0100", "eTag": "2"})
    older = watch.record("data/a.parquet", object={"sequencer": "FF", "eTag": "1"})
    watch.send(newer)
    await watch.counts(1)
    wished = await watch.wishes()
    watch.send(older)
    await watch.counts(2)
    assert await watch.wishes() == wished
    watch.send(watch.record("data/b.parquet", object={"sequencer": "01"}))
    await watch.counts(3)
    assert (await watch.wishes())[0] == wished[0] + 1


async def test_sqs_batch_mixed_kinds_counts_what_changes_objects(watch: Watch) -> None:
    watch.send(
        watch.record("data/a.parquet"),
        watch.record("data/a.parquet", eventName="ObjectRemoved:Delete", object={"sequencer": "FF"}),
        watch.record("data/a.parquet", eventName="ObjectTagging:Put", object={"sequencer": "AA"}),
        watch.record("elsewhere/a.parquet"),
    )
    await watch.counts(2)
    await watch.taken()
    assert (await watch.wishes())[0] == 1


async def test_sqs_prefix_boundary_keeps_a_neighbour_out(watch: Watch) -> None:
    before = await watch.row()
    watch.send(watch.record("data2/a.parquet"), watch.record("data"), watch.record("dat"))
    await watch.taken()
    assert await watch.row() == before


async def test_sqs_success_marker_ignored_but_counted(watch: Watch) -> None:
    watch.send(
        watch.record("data/_SUCCESS"), watch.record("data/x.parquet.crc"), watch.record("data/folder/")
    )
    await watch.counts(3)
    assert (await watch.wishes())[0] == 0
    assert (await watch.status())["s3LastRefreshAt"] is None


async def test_debounce_burst_one_refresh(watch: Watch) -> None:
    watch.cloud.put(watch.bucket, "data/0.parquet", 0)
    assert await watch.caller.rows("select count(*) as n from sales") == [{"n": 1}]
    watch.cloud.connect(watch.bucket, watch.arn)
    measured = value_of("weir_lake_event_to_refresh_seconds_count")
    for n in range(1, 21):
        watch.cloud.put(watch.bucket, f"data/{n}.parquet", n)
    await watch.counts(20)

    async def is_refreshed() -> bool:
        return (await watch.status())["s3LastRefreshAt"] is not None

    await eventually(is_refreshed, within=15)
    assert value_of("weir_lake_event_to_refresh_seconds_count") == measured + 1
    assert await watch.runs() == ["sqs"]
    wish, served = await watch.wishes()
    assert wish == served
    assert await watch.caller.rows("select count(*) as n from sales") == [{"n": 21}]


async def test_a_removed_object_takes_its_rows_away(watch: Watch) -> None:
    watch.cloud.put(watch.bucket, "data/a.parquet", 1)
    watch.cloud.put(watch.bucket, "data/b.parquet", 2)
    assert await watch.caller.rows("select count(*) as n from sales") == [{"n": 2}]
    watch.cloud.connect(watch.bucket, watch.arn)
    watch.cloud.remove(watch.bucket, "data/b.parquet")
    await watch.counts(1)

    async def is_gone() -> bool:
        return await watch.caller.rows("select count(*) as n from sales") == [{"n": 1}]

    await eventually(is_gone, within=15)


async def test_event_during_refresh_one_followup(watch: Watch) -> None:
    """No runtime is awake here: this test serves the wishes itself, and slowly."""
    tenant_id, database = watch.caller.tenant_id, watch.caller.database

    async def claimed() -> Any:
        async with database.tenant(tenant_id) as connection:
            return await lake_refreshes.claim(connection, tenant_id, "sales", seconds=60)

    watch.send(watch.record("data/0.parquet"))
    await watch.counts(1)
    claim = await eventually(claimed)
    for n in range(1, 6):
        watch.send(watch.record(f"data/{n}.parquet"))
    await watch.counts(6)
    assert await claimed() is None
    for expected in (True, False):
        async with database.tenant(tenant_id) as connection:
            assert await lake_refreshes.succeed(
                connection, tenant_id, "sales", claim.token, row_count=None, byte_count=None
            )
            await lake_notifications.note_refreshed(connection, tenant_id, "sales")
        if expected:
            claim = await eventually(claimed)
    await asyncio.sleep(2.5)
    assert await claimed() is None
    assert await watch.runs() == ["sqs", "sqs"]


async def test_crash_between_ack_and_refresh_recovers(watch: Watch) -> None:
    """A worker takes the wish and dies; the message is gone long since."""
    tenant_id, database = watch.caller.tenant_id, watch.caller.database
    watch.cloud.put(watch.bucket, "data/a.parquet", 1)
    watch.send(watch.record("data/a.parquet"))
    await watch.counts(1)
    await watch.taken()

    async def taken_by_the_dead() -> Any:
        async with database.tenant(tenant_id) as connection:
            return await lake_refreshes.claim(connection, tenant_id, "sales", seconds=4)

    await eventually(taken_by_the_dead)
    assert await watch.caller.rows("select count(*) as n from sales") == [{"n": 1}]

    async def is_refreshed() -> bool:
        return (await watch.status())["s3LastRefreshAt"] is not None

    assert not await is_refreshed()
    await eventually(is_refreshed, within=15)


async def test_crash_between_commit_and_ack_counts_once(watch: Watch) -> None:
    polled = await watch.polled()
    body = json.dumps({"Records": [watch.record("data/a.parquet"), watch.record("data/b.parquet")]})
    for attempt in range(3):
        message = Message(id=str(attempt), receipt="r", body=body)
        accepted = await accept(watch.caller.database, polled, [message], quiet_seconds=0)
        assert accepted.done == [message]
    assert (await watch.status())["s3EventCount"] == 2


async def test_one_event_counted_by_many_at_once_counts_once(watch: Watch) -> None:
    polled = await watch.polled()
    bodies = [json.dumps({"Records": [watch.record(f"data/{n}.parquet")]}) for n in range(30)]

    async def take(order: list[str]) -> None:
        for body in order:
            await accept(
                watch.caller.database, polled, [Message(id="", receipt="", body=body)], quiet_seconds=0
            )

    await asyncio.gather(*(take(bodies[n:] + bodies[:n]) for n in range(0, 30, 5)))
    assert (await watch.status())["s3EventCount"] == 30


@pytest.mark.promise("P5")
@pytest.mark.timeout(600)
async def test_every_event_counts_once_and_is_refreshed_after_though_pollers_die_in_the_midst(
    watch: Watch, promise: Promise
) -> None:
    """Each message is delivered until somebody has lived to acknowledge it, and by then to others as well."""
    events, batch, chance = size(300, 3000), 10, random.Random(5)
    polled, deaths, deliveries = await watch.polled(), 0, 0
    keys = [f"data/{n}.parquet" for n in range(events)]
    left = [
        Message(
            id=str(first),
            receipt="r",
            body=json.dumps({"Records": [watch.record(key) for key in keys[first : first + batch]]}),
        )
        for first in range(0, events, batch)
    ]
    acknowledged: list[Message] = []

    async def poller() -> None:
        nonlocal deaths, deliveries
        while left:
            taken = chance.sample(left, min(3, len(left)))
            deliveries += len(taken)
            working = asyncio.ensure_future(accept(watch.caller.database, polled, taken, quiet_seconds=0))
            _, alive = await asyncio.wait([working], timeout=chance.choice([0.001, 0.004, 0.01, 20]))
            if alive:
                working.cancel()
                deaths += 1
                with suppress(asyncio.CancelledError):
                    await working
                continue
            assert len(working.result().done) == len(taken)
            if chance.random() < 0.3:
                # Dead between the commit and the acknowledgement: all of it comes again.
                deaths += 1
                continue
            for message in taken:
                if message in left:
                    left.remove(message)
                    acknowledged.append(message)

    await asyncio.gather(*(poller() for _ in range(4)))
    assert (await watch.status())["s3EventCount"] == events
    assert deaths >= 10 and deliveries > len(acknowledged) == events // batch

    async def is_served() -> bool:
        wish, served = await watch.wishes()
        return wish == served > 0

    watch.cloud.put(watch.bucket, keys[-1], 1)
    assert await watch.caller.rows("select count(*) as n from sales") == [{"n": 1}]
    await eventually(is_served, within=25)
    promise.held(
        f"{events} events in {len(acknowledged)} messages, {deliveries} deliveries, {deaths} pollers dead in the"
        f" midst: {events} counted, the refresh after the last is done"
    )


async def test_paused_events_counted_then_refreshed(watch: Watch) -> None:
    watch.cloud.put(watch.bucket, "data/a.parquet", 1)
    assert await watch.caller.rows("select count(*) as n from sales") == [{"n": 1}]
    await watch.caller.stop()
    watch.cloud.connect(watch.bucket, watch.arn)
    watch.cloud.put(watch.bucket, "data/b.parquet", 2)
    await watch.counts(1)
    await asyncio.sleep(3)
    status = await watch.caller.status()
    assert status["vmStatus"] == "paused"
    sales = status["datasets"]["sales"]
    assert (sales["status"], sales["s3EventCount"], sales["s3LastRefreshAt"]) == ("unknown", 1, None)
    assert await watch.caller.rows("select count(*) as n from sales") == [{"n": 2}]

    async def is_refreshed() -> bool:
        return (await watch.status())["s3LastRefreshAt"] is not None

    await eventually(is_refreshed, within=15)
    before = await watch.status()
    await watch.caller.stop()
    after = await watch.status()
    assert after["status"] == "unknown"
    for field in ("s3EventCount", "s3LastEventAt", "s3LastRefreshAt"):
        assert after[field] == before[field]
    assert (await watch.caller.http.post("/redeploy")).status_code in (200, 202)
    assert (await watch.status())["s3EventCount"] == 1


@pytest.mark.promise("P29")
async def test_forged_and_foreign_messages_change_nothing(watch: Watch, other: Any, promise: Promise) -> None:
    bucket = watch.cloud.bucket()
    body = {"params": {"file_format": "parquet"}, "notifications": True}
    theirs = await other.add("sales", f"s3://{bucket}/data/", **body)
    victim = Watch(other, watch.cloud, bucket, theirs["notifications"]["queueArn"])
    before, untouched = await watch.row(), await victim.row()
    forged = [
        {"Records": [watch.record("data/a.parquet", bucket=bucket)]},
        {"Records": [watch.record("data/a.parquet", bucket=watch.bucket.upper())]},
        {"Records": [watch.record("../data/a.parquet")]},
        {"Records": [watch.record("/data/a.parquet")]},
        {"Records": [watch.record("data%00/a.parquet")]},
        {"Records": [watch.record("other/a.parquet")], "tenant_id": other.tenant_id, "queue": victim.arn},
        {"Event": "s3:TestEvent", "Bucket": bucket},
        {"Records": []},
    ]
    watch.cloud.send(watch.arn, *forged)
    await watch.taken()
    assert await watch.row() == before
    assert await victim.row() == untouched
    assert await watch.wishes() == await victim.wishes() == (0, 0)
    promise.held(f"{len(forged)} events of a wrong bucket, prefix or tenant: 0 accepted")


async def test_oversized_messages_change_nothing(watch: Watch) -> None:
    before = await watch.row()
    padding = json.dumps({"Records": [watch.record("data/a.parquet")], "padding": "x" * 200_000})
    huge = json.dumps({"Records": [watch.record("data/a.parquet")], "padding": "x" * 1_000_000})
    polled = await watch.polled()
    accepted = await accept(
        watch.caller.database, polled, [Message(id="1", receipt="r", body=huge)], quiet_seconds=0
    )
    assert (len(accepted.done), len(accepted.poison)) == (0, 1)
    assert await watch.row() == before
    # One that is large and still allowed is a message like any other.
    accepted = await accept(
        watch.caller.database, polled, [Message(id="2", receipt="r", body=padding)], quiet_seconds=0
    )
    assert (await watch.status())["s3EventCount"] == 1


async def test_an_unknown_queue_and_one_of_another_tenant_change_nothing(watch: Watch, other: Any) -> None:
    before = await watch.row()
    polled = await watch.polled()
    message = Message(id="1", receipt="r", body=json.dumps({"Records": [watch.record("data/a.parquet")]}))
    unknown = Polled(**{**as_dict(polled), "id": str(uuid.uuid4())})
    crossed = Polled(**{**as_dict(polled), "tenant_id": other.tenant_id})
    for queue in (unknown, crossed):
        await accept(watch.caller.database, queue, [message], quiet_seconds=0)
    assert await watch.row() == before
    assert await watch.wishes() == (0, 0)
    assert (await other.status())["datasets"] == {}


async def test_a_moment_of_the_far_future_is_taken_for_now(watch: Watch) -> None:
    watch.send(watch.record("data/a.parquet", eventTime="9999-12-31T23:59:59Z"))
    await watch.counts(1)
    assert (await watch.status())["s3LastEventAt"] < "2900"


async def test_the_ledger_forgets_after_a_day(watch: Watch) -> None:
    watch.send(watch.record("data/a.parquet"))
    await watch.counts(1)
    tenant_id, database = watch.caller.tenant_id, watch.caller.database
    for age, left in (("23 hours", 1), ("25 hours", 0)):
        async with database.tenant(tenant_id) as connection:
            await connection.execute(
                f"update lake_event_ledger set seen_at = now() - interval '{age}' where tenant_id = $1",
                tenant_id,
            )
        async with database.any_tenant() as connection:
            await lake_event_ledger.forget_old_any(connection)
        async with database.tenant(tenant_id) as connection:
            found = await connection.fetchval(
                "select count(*) from lake_event_ledger where tenant_id = $1", tenant_id
            )
        assert found == left


def value_of(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


def as_dict(polled: Polled) -> dict[str, Any]:
    return {name: getattr(polled, name) for name in polled.__struct_fields__}
