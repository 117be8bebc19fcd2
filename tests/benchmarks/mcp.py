"""What a tool of an MCP server costs within a turn, above the same call made by the official client alone."""

import statistics
import time
import uuid
from typing import Any

import aiohttp
import httpx
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from tests.benchmarks.report import Report
from tests.benchmarks.standing import Standing, mcp_server
from tests.fakes.model_server import Brain, FakeModels, Reply, say, serve_fake_models, use

ROUNDS, CALLS = 5, 40
GOAL_MILLISECONDS = 5


async def mcp(standing: Standing, report: Report) -> None:
    """By turns: calls of the plain client, and one turn with as many calls, each from its tool_call to its result."""
    report.title(
        f"MCP over streamable HTTP: echo, {ROUNDS} × {CALLS} calls by a turn and by the plain client"
    )
    plain: list[float] = []
    turns: list[float] = []
    with mcp_server() as address:
        async with (
            serve_fake_models() as models,
            Client(streamable_http_client(f"{address}/mcp"), mode="legacy") as client,
        ):
            name = f"bench-{uuid.uuid4().hex[:8]}"
            brain = _furnish(standing, models, name, f"{address}/mcp")
            for number in range(ROUNDS + 1):
                alone = await _plain_calls(client)
                within = await _turn(standing, name)
                if number:
                    plain += alone
                    turns += within
        asked = await _asked_of(address)
    assert brain.requests
    _tell(report, plain, turns, asked)


def _tell(report: Report, plain: list[float], turns: list[float], asked: dict[str, int]) -> None:
    # The plain client has made a session of its own.
    sessions = asked["initialize"] - 1
    report.add("sessions that the platform opened", str(sessions), "1", reached=sessions == 1)
    wanted = (ROUNDS + 1) * CALLS * 2
    calls = asked["tools/call"]
    report.add("calls that the server has seen", str(calls), str(wanted), reached=calls == wanted)
    report.add("the plain client: median", f"{statistics.median(plain) * 1000:.2f} ms")
    report.add("within a turn: median", f"{statistics.median(turns) * 1000:.2f} ms")
    report.add("within a turn: the slowest of twenty", f"{sorted(turns)[-len(turns) // 20] * 1000:.2f} ms")
    more = (statistics.median(turns) - statistics.median(plain)) * 1000
    goal = f"≤ {GOAL_MILLISECONDS} ms"
    report.add(
        "a call within a turn costs more by", f"{more:.2f} ms", goal, reached=more <= GOAL_MILLISECONDS
    )


def _furnish(standing: Standing, models: FakeModels, name: str, url: str) -> Brain:
    script: list[Reply] = []
    for _ in range(ROUNDS + 1):
        script += [*(use("echo", _asked(number)) for number in range(CALLS)), say("Done.")]
    brain = models.brain(*script)
    wanted: dict[str, dict[str, Any]] = {
        "models": {"type": "openai_compatible", "model_name": brain.name, "base_url": models.base_url},
        "mcp-servers": {"type": "streamable-http", "url": url},
        "agents": {"model": name, "system": "Call.", "mcp_servers": [name], "max_steps": CALLS + 5},
        "schemas": {"entry_agent_id": name, "chat_enabled": True},
    }
    for path, body in wanted.items():
        standing.client.post(f"/api/v1/{path}", json={"name": name} | body).raise_for_status()
    return brain


async def _asked_of(address: str) -> dict[str, int]:
    async with httpx.AsyncClient() as http:
        return (await http.get(f"{address}/seen")).json()


def _asked(number: int) -> dict[str, str]:
    """Never the same twice: an agent that repeats itself is stopped."""
    return {"text": f"hello {number}"}


async def _plain_calls(client: Client) -> list[float]:
    taken: list[float] = []
    for number in range(CALLS):
        started = time.perf_counter()
        result = await client.call_tool("echo", _asked(number))
        taken.append(time.perf_counter() - started)
        assert not result.is_error
    return taken


async def _turn(standing: Standing, schema: str) -> list[float]:
    """Seconds from each tool_call to its tool_result, as they reach a client of the gateway."""
    taken: list[float] = []
    started = 0.0
    url = f"{standing.platform.url}/api/v1/schemas/{schema}/chat"
    async with (
        aiohttp.ClientSession(headers=standing.headers) as http,
        http.post(url, json={"message": "go"}) as answer,
    ):
        answer.raise_for_status()
        async for line in answer.content:
            if line == b"event: tool_call\n":
                started = time.perf_counter()
            elif line == b"event: tool_result\n":
                taken.append(time.perf_counter() - started)
            elif line.startswith(b"data:") and b'"has_error":true' in line:
                raise RuntimeError(line.decode())
    if len(taken) != CALLS:
        raise RuntimeError(f"{len(taken)} of {CALLS} calls were made")
    return taken
