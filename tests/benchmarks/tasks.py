"""Tasks' figures: how many a worker gets done with a model that takes no time, and how many are lost when it dies."""

import asyncio
import json
import os
import signal
import time
import uuid
from typing import Any

from tests.benchmarks.load import Connection
from tests.benchmarks.report import Report
from tests.benchmarks.standing import Standing, fake_model

TASKS = 1000
CLIENTS = 16
KILLS = 2
GOAL_RATE = 50
PATIENCE_SECONDS = 180


async def tasks(standing: Standing, report: Report) -> None:
    report.title(f"{TASKS} tasks, a model that takes no time, one worker")
    with fake_model() as url:
        agent = _agent(standing, url)
        started = time.perf_counter()
        made = await _create(standing, agent)
        created = time.perf_counter() - started
        report.add("created", f"{len(made) / created:.0f} tasks/s")
        done = await _wait(standing, made)
        rate = TASKS / (time.perf_counter() - started)
        goal = f"≥ {GOAL_RATE} tasks/s"
        report.add("created and done", f"{rate:.0f} tasks/s", goal, reached=rate >= GOAL_RATE)
        report.add("completed", f"{done['completed']} of {TASKS}", "all", reached=done["completed"] == TASKS)
        report.title(f"the same, and the worker killed {KILLS} times")
        started = time.perf_counter()
        killing = asyncio.create_task(_kill(standing))
        made = await _create(standing, agent)
        await killing
        done = await _wait(standing, made)
        took = time.perf_counter() - started
        report.add("completed", f"{done['completed']} of {TASKS}", "all", reached=done["completed"] == TASKS)
        report.add("until all were, leases of the dead included", f"{took:.1f} s")


def _agent(standing: Standing, url: str) -> str:
    name = f"bench-{uuid.uuid4().hex[:8]}"
    model = {"name": name, "type": "openai_compatible", "model_name": "bench", "base_url": f"{url}/v1"}
    standing.client.post("/api/v1/models", json=model).raise_for_status()
    standing.client.post("/api/v1/agents", json={"name": name, "model": name}).raise_for_status()
    return name


async def _create(standing: Standing, agent: str) -> set[str]:
    left = iter(range(TASKS))
    made: set[str] = set()

    async def client() -> None:
        connection = Connection(standing.platform.url)
        for number in left:
            body = json.dumps({"agent": agent, "title": f"task {number}"}).encode()
            reply = await connection.ask("POST", "/api/v1/tasks", standing.headers, body)
            if reply.status != 201:
                raise RuntimeError(f"{reply.status} {reply.body[:300]!r}")
            made.add(json.loads(reply.body)["id"])
        await connection.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return made


async def _wait(standing: Standing, made: set[str]) -> dict[str, int]:
    """How many of the tasks ended in each state, once all have or patience ends."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        waiting = 0
        for status in ("pending", "in_progress"):
            waiting += (await _list(standing, f"status={status}&limit=1"))["total"]
        if not waiting:
            break
        await asyncio.sleep(0.1)
    counts = {"completed": 0}
    for page in range(1, 2 * TASKS // 100 + 1):
        for task in (await _list(standing, f"page={page}&per_page=100"))["tasks"]:
            if task["id"] in made:
                counts[task["status"]] = counts.get(task["status"], 0) + 1
    return counts


async def _list(standing: Standing, query: str) -> dict[str, Any]:
    answer = await asyncio.to_thread(standing.client.get, f"/api/v1/tasks?{query}")
    return answer.raise_for_status().json()


async def _completed(standing: Standing) -> int:
    return (await _list(standing, "status=completed&limit=1"))["total"]


async def _kill(standing: Standing) -> None:
    """Kills the worker in the midst of its work, and again once its successor is at it."""
    until = time.monotonic() + PATIENCE_SECONDS
    for _ in range(KILLS):
        while not (found := standing.processes_of("worker")):
            await asyncio.sleep(0.1)
        done = await _completed(standing)
        while await _completed(standing) < done + TASKS // 10:
            if time.monotonic() > until:
                raise RuntimeError("there was no worker at work to be killed")
            await asyncio.sleep(0.02)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        while set(standing.processes_of("worker")) & set(found):
            await asyncio.sleep(0.05)
