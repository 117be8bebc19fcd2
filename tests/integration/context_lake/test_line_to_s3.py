"""The line to S3 and SQS is slow, cut, reset or silent: queries say so in time, and every event is counted after it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace as changed
from tests.conftest import migrated_database
from tests.fakes.fault_proxy import FaultProxy, Line, fault_proxy
from tests.integration.context_lake.buckets import Cloud
from tests.integration.context_lake.conftest import Lake, eventually, new_tenant, working
from tests.promises import Promise, size
from tests.serving import free_port, served

from weir.context_lake.app import create_app
from weir.context_lake.notifications import polling
from weir_shared.db.pool import open_database

FAULT_SECONDS = size(1, 30)
QUERY_SECONDS = 2
# A second until a query that does not end by itself is ended, and the machine's slack.
MOST_SECONDS = QUERY_SECONDS + 3
# The poller's longest pause after a fault, and a debounce.
BACK_SECONDS = 40
FAULTS: tuple[Line, ...] = ("cut", "reset", "black_hole")
COUNT = "select count(*) as n from sales"


@pytest.fixture
async def line(moto_url: str) -> AsyncIterator[FaultProxy]:
    parts = urlsplit(moto_url)
    async with fault_proxy(parts.hostname or "", parts.port or 0) as proxy:
        yield proxy


@pytest.fixture
async def behind(lake: Lake, line: FaultProxy, moto_url: str, postgres_dsn: str) -> AsyncIterator[Lake]:
    """A desk and a worker that reach S3 and SQS by way of the line; no other worker sees their database."""
    async with migrated_database(postgres_dsn) as dsn:
        port = free_port()
        settings = changed(
            lake.settings,
            database_url=dsn,
            redis_url=urlsplit(str(lake.settings.redis_url))._replace(path="/12").geturl(),
            aws_endpoint_url=line.in_url(moto_url),
            lake_url=f"http://127.0.0.1:{port}",
        )
        database = await open_database(dsn)
        async with working(settings), served(create_app(settings), port) as url:
            yield Lake(url, settings, lake.host, database, lake.office)
        await database.close()


@pytest.mark.promise("P20")
async def test_events_and_refreshes_go_on_after_each_fault_of_the_line_to_s3(
    behind: Lake, line: FaultProxy, moto_url: str, promise: Promise, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A message whose way back was cut is hidden for so long.
    monkeypatch.setattr(polling, "HIDDEN_SECONDS", 3)
    cloud = Cloud(moto_url)
    bucket = await asyncio.to_thread(cloud.bucket)
    async with behind.caller(await new_tenant(behind)) as caller:
        body = {"params": {"file_format": "parquet"}, "notifications": True}
        told = (await caller.add("sales", f"s3://{bucket}/data/", **body))["notifications"]
        await asyncio.to_thread(cloud.connect, bucket, told["queueArn"])
        events, slowest, back = 0, 0.0, 0.0
        answers = Counter[int]()

        async def put() -> None:
            nonlocal events
            await asyncio.to_thread(cloud.put, bucket, f"data/{events}.parquet", events)
            events += 1

        async def ask(_: Any = None) -> None:
            nonlocal slowest
            began = time.monotonic()
            answer = await caller.sql(COUNT, timeoutSeconds=QUERY_SECONDS)
            slowest = max(slowest, time.monotonic() - began)
            assert answer.status_code in (200, 502, 503, 504), answer.text
            answers[answer.status_code] += 1

        async def is_caught_up() -> bool:
            status = (await caller.status())["datasets"]["sales"]
            if status["s3EventCount"] != events:
                return False
            answer = await caller.sql(COUNT)
            return answer.status_code == 200 and answer.json()["rows"] == [{"n": events}]

        await put()
        await eventually(is_caught_up, within=BACK_SECONDS)
        for fault in FAULTS:
            await line.set(fault)
            until = time.monotonic() + FAULT_SECONDS
            while time.monotonic() < until:
                await put()
                await ask()
                await asyncio.sleep(0.2)
            await line.set("good")
            mended = time.monotonic()
            await eventually(is_caught_up, within=BACK_SECONDS)
            back = max(back, time.monotonic() - mended)
        await line.delay(0.05)
        await put()
        await eventually(is_caught_up, within=BACK_SECONDS)
        assert slowest < MOST_SECONDS
    promise.held(
        f"the line to S3 and SQS cut, reset and silent for {FAULT_SECONDS} s each, and slow: queries meanwhile told {dict(answers)}, "
        f"slowest {slowest:.1f} s (their own time is {QUERY_SECONDS} s); {events} events, each counted once and read, the last "
        f"{back:.1f} s after"
    )
