"""S3 events: how soon the dataset is read again, and whether every one is counted while workers are killed."""

import asyncio
import os
import random
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx
from tests.benchmarks.report import Report
from tests.benchmarks.standing import LAKE, Standing
from tests.serving import free_port
from tests.starting import started

from weir_shared.db.pool import open_database

KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
}
DEBOUNCE_SECONDS = 2.0
SAMPLES = 20
EVENTS = 300
KILLS = (80, 190)
# What a killed worker had in its hands comes again after this; see the poller.
HIDDEN_SECONDS = 20


async def events(_: Standing, report: Report) -> None:
    """On a platform of its own, whose S3 and SQS are a moto server in its own process."""
    with moto() as url, tempfile.TemporaryDirectory() as work:
        settings = KEYS | {"WEIR_AWS_ENDPOINT_URL": url, "WEIR_DEMO": "0"}
        with started(Path(work), WEIR_REFRESH_DEBOUNCE_SECONDS=str(DEBOUNCE_SECONDS), **settings) as platform:
            standing = Standing(platform)
            await _freshness(standing, report, url)
            await _counted(standing, report, url)


async def _freshness(standing: Standing, report: Report, url: str) -> None:
    report.title(
        f"S3 event to refreshed: {SAMPLES} objects, one after the other, quiet time {DEBOUNCE_SECONDS} s"
    )
    s3, bucket = _watched(standing, url, "fresh")
    standing.client.post(f"{LAKE}/sql", json={"query": "select count(*) from fresh"}).raise_for_status()
    database = await open_database(standing.environment["WEIR_DATABASE_URL"], size=2)
    taken: list[float] = []
    for n in range(SAMPLES):
        await asyncio.sleep(random.uniform(0, 1))
        await asyncio.to_thread(s3.put_object, Bucket=bucket, Key=f"data/{n}.csv", Body=b"n\n1\n")
        put_at = time.time()
        while (refreshed := await _refreshed_at(database, "fresh")) < put_at:
            if time.time() - put_at > 60:
                raise RuntimeError("the dataset was not refreshed")
            await asyncio.sleep(0.02)
        taken.append(refreshed - put_at - DEBOUNCE_SECONDS)
    await database.close()
    p95 = statistics.quantiles(taken, n=20)[-1]
    report.add("beyond the quiet time, p50", f"{statistics.median(taken):.2f} s")
    report.add("beyond the quiet time, p95", f"{p95:.2f} s", "<= 5 s", reached=p95 <= 5)


async def _counted(standing: Standing, report: Report, url: str) -> None:
    report.title(f"{EVENTS} events, the worker killed {len(KILLS)} times in between")
    s3, bucket = _watched(standing, url, "counted")
    standing.client.post(f"{LAKE}/sql", json={"query": "select count(*) from counted"}).raise_for_status()
    started_at = time.monotonic()
    for n in range(EVENTS):
        await asyncio.to_thread(s3.put_object, Bucket=bucket, Key=f"data/{n}.csv", Body=b"n\n1\n")
        if n in KILLS:
            _kill(standing)
    while _count(standing) < EVENTS and time.monotonic() - started_at < 150:
        await asyncio.sleep(0.2)
    took = time.monotonic() - started_at
    # Whatever a dead worker still holds comes again, and must not count again.
    await asyncio.sleep(HIDDEN_SECONDS + 5)
    count = _count(standing)
    report.add("counted", str(count), f"{EVENTS} exactly", reached=count == EVENTS)
    report.add("all of them after", f"{took:.1f} s")


def _kill(standing: Standing) -> None:
    """The worker in the middle of whatever it does; its supervisor starts it again."""
    pids = standing.processes_of("worker")
    if not pids:
        raise RuntimeError("there is no worker to kill")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def _watched(standing: Standing, url: str, name: str) -> tuple[Any, str]:
    """A dataset over a new bucket that tells of its changes."""
    options = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    s3: Any = boto3.client("s3", endpoint_url=url, **options)
    bucket = f"weir-{secrets.token_hex(6)}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="data/first.csv", Body=b"n\n1\n")
    key = {"s3_auth": "key", "s3_key": "testing", "s3_secret": "testing", "file_format": "csv"}
    body = {"name": name, "from": f"s3://{bucket}/data/", "params": key, "notifications": True}
    added = standing.client.post(f"{LAKE}/datasets", json=body).raise_for_status().json()
    arn = added["notifications"]["queueArn"]
    queue = {"QueueArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [queue]}
    )
    return s3, bucket


def _count(standing: Standing) -> int:
    return standing.client.get(f"{LAKE}/status").json()["datasets"]["counted"]["s3EventCount"]


async def _refreshed_at(database: Any, name: str) -> float:
    async with database.any_tenant() as connection:
        moment = await connection.fetchval(
            "select extract(epoch from last_refresh_at)::float8 from lake_notifications where name = $1", name
        )
    return moment or 0.0


@contextmanager
def moto() -> Iterator[str]:
    """The address of an S3 and SQS in a process of its own."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                httpx.get(f"{url}/moto-api/", timeout=1)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()
