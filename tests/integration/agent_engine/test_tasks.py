"""Tasks: written down, worked on by a worker, asked about, steered and ended; each once, whatever dies meanwhile."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.model_server import Call, Reply, say, use
from tests.integration.agent_engine.conftest import Caller, World
from tests.integration.agent_engine.test_sub_agents import sub_agent
from tests.integration.agent_engine.working import eventually, reached, worker_here, worker_process

from weir.agent_engine import tasks
from weir.agent_engine.tables import task_claims
from weir_shared.db.pool import Database


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
async def world(start_world: Callable[..., Any], keys: Path) -> AsyncIterator[World]:
    """A studio without a worker: what is created waits."""
    async with start_world(keys) as started:
        yield started


@pytest.fixture
async def worker(dsn: str, redis_url: str, keys: Path) -> AsyncIterator[dict[str, Any]]:
    async with worker_here(dsn, redis_url, keys) as context:
        yield context


async def created(caller: Caller, agent: str, **fields: Any) -> dict[str, Any]:
    return await caller.ask(201, "POST", "/tasks", {"agent": agent, "title": "Look around"} | fields)


async def asked(caller: Caller, task: dict[str, Any], status: int, action: str, body: Any = None) -> Any:
    return await caller.ask(status, "POST", f"/tasks/{task['id']}/{action}", body)


async def status_of(caller: Caller, task: dict[str, Any]) -> str:
    return (await caller.ask(200, "GET", f"/tasks/{task['id']}"))["status"]


async def test_a_new_task_has_every_key_and_waits(world: World, admin: Caller) -> None:
    agent = (await world.assistant(admin)).agent
    task = await created(admin, agent, description="At the market", priority=2, acceptance_criteria=["short"])
    assert task["id"].startswith("task_")
    assert task == await admin.ask(200, "GET", f"/tasks/{task['id']}")
    assert (task["status"], task["source"], task["mode"]) == ("pending", "api", "background")
    assert (task["agent"], task["agent_name"], task["task_id"]) == (agent, agent, task["id"])
    assert task["acceptance_criteria"] == ["short"]
    assert task["result"] is None and task["started_at"] is None
