"""The worker, the queue's server and the connections to the database die again and again: no task is lost, each ends once."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.benchmarks.standing import Standing
from tests.fakes.model_server import say, serve_fake_models
from tests.promises import Promise, size
from tests.starting import started

from weir.agent_engine.tables.task_claims import MAX_ATTEMPTS
from weir_shared.db.pool import Connection, Database, open_database

CLIENTS = 8
SECONDS_BETWEEN = 2.0
# A part that ends five times in its first 20 s is given up: that is a start that fails, and no accident.
FIRST_SECONDS, MOST_IN_FIRST = 22.0, 4
ENDS = ("completed", "failed", "cancelled")


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    with started(tmp_path_factory.mktemp("tasks"), WEIR_DEMO="0") as platform:
        yield Standing(platform)


class Storm:
    """What is done to the platform, and how often."""

    def __init__(self, standing: Standing, database: Database) -> None:
        self._standing = standing
        self._database = database
        self.done = Counter[str]()

    async def strike(self) -> None:
        """One of each: the queue is emptied, every connection to the database ends, the worker is killed."""
        for pid in self._valkey():
            os.kill(pid, signal.SIGKILL)
            self.done["valkey"] += 1
        async with self._database.any_tenant() as connection:
            cut = await connection.fetchval(
                """
                select count(pg_terminate_backend(pid)) from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid()
                """
            )
        self.done["connections"] += int(cut or 0)
        while not (workers := self._standing.processes_of("worker")):
            await asyncio.sleep(0.1)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
            self.done["worker"] += 1

    def _valkey(self) -> list[int]:
        port = str(urlsplit(self._standing.environment["WEIR_REDIS_URL"]).port)
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    line = (entry / "cmdline").read_bytes().decode()
                    if "valkey" in line and port in line:
                        found.append(int(entry.name))
        return found


@pytest.mark.promise("P4")
@pytest.mark.timeout(3600)
async def test_no_accepted_task_is_lost_and_each_ends_once(standing: Standing, promise: Promise) -> None:
    tasks, strikes = size(500, 5000), size(5, 50)
    database = await open_database(standing.environment["WEIR_DATABASE_URL"], size=2)
    async with serve_fake_models() as models:
        brain = models.brain(say("Done.", delay=0.3))
        agent = await asyncio.to_thread(_agent, standing, models.base_url, brain.name)
        storm, began = Storm(standing, database), time.monotonic()
        accepted, creating = dict[str, str](), asyncio.create_task(_create(standing, agent, tasks))
        for strike in range(strikes):
            await asyncio.sleep(SECONDS_BETWEEN)
            if strike == MOST_IN_FIRST:
                await asyncio.sleep(max(0.0, began + FIRST_SECONDS - time.monotonic()))
            await storm.strike()
        accepted = await creating
        await _all_ended(database, accepted, within=60 + tasks / 10)
        rows = await _ends(database)
    await database.close()
    assert rows.keys() == set(accepted.values()), "what was accepted is what is there"
    ends = Counter(row["status"] for row in rows.values())
    for row in rows.values():
        # One that has broken off with five workers is ended as failed, and says so.
        gave_up = row["status"] == "failed" and row["attempts"] > MAX_ATTEMPTS - 1
        assert row["status"] == "completed" or gave_up, dict(row)
        assert (row["ended"], row["answers"]) == ((0, 0) if gave_up else (1, 1)), dict(row)
    assert storm.done["worker"] >= strikes and storm.done["valkey"] >= strikes - 1, storm.done
    promise.held(
        f"{tasks} tasks in {time.monotonic() - began:.0f} s, {storm.done['worker']} workers and"
        f" {storm.done['valkey']} queues killed, {storm.done['connections']} connections cut: 0 lost,"
        f" {dict(ends)}, 0 ended twice ({len(brain.requests)} model calls)"
    )


def _agent(standing: Standing, url: str, model_name: str) -> str:
    model = {"name": "drill", "type": "openai_compatible", "model_name": model_name, "base_url": url}
    for path, body in (("models", model), ("agents", {"name": "drill", "model": "drill"})):
        standing.client.post(f"/api/v1/{path}", json=body).raise_for_status()
    return "drill"


async def _create(standing: Standing, agent: str, tasks: int) -> dict[str, str]:
    """Every task that was accepted, by its key; each is asked for until there is an answer, as a client does."""
    left, accepted = iter(range(tasks)), dict[str, str]()
    chance = random.Random(4)

    async def client() -> None:
        async with httpx.AsyncClient(
            base_url=standing.platform.url, headers=standing.headers, timeout=30
        ) as http:
            for number in left:
                key, body = f"drill-{number}", {"agent": agent, "title": f"task {number}"}
                while key not in accepted:
                    try:
                        answer = await http.post("/api/v1/tasks", json=body, headers={"Idempotency-Key": key})
                    except httpx.TransportError:
                        continue
                    if answer.status_code == 201:
                        accepted[key] = answer.json()["id"]
                    else:
                        assert answer.status_code in (429, 503), answer.text
                    await asyncio.sleep(chance.random() * 0.1)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return accepted


async def _all_ended(database: Database, accepted: dict[str, str], within: float) -> None:
    until = time.monotonic() + within
    while True:
        async with database.any_tenant() as connection:
            counts = await _counts(connection)
        if sum(counts.get(status, 0) for status in ENDS) >= len(accepted):
            return
        assert time.monotonic() < until, f"{len(accepted)} accepted, and only {counts}"
        await asyncio.sleep(0.5)


async def _counts(connection: Connection) -> dict[str, int]:
    rows = await connection.fetch("select status, count(*) as n from tasks group by status")
    return {row["status"]: row["n"] for row in rows}


async def _ends(database: Database) -> dict[str, Any]:
    """Each task with how many of its turns ended well, and how many answers its conversation holds."""
    async with database.any_tenant() as connection:
        rows = await connection.fetch(
            """
            select tasks.id, tasks.status, tasks.error, tasks.attempts,
                (select count(*) from turns where turns.session_id = tasks.session_id
                    and turns.status = 'completed') as ended,
                (select count(*) from messages where messages.session_id = tasks.session_id
                    and messages.event_type = 'assistant_message') as answers
            from tasks
            """
        )
    return {row["id"]: row for row in rows}
