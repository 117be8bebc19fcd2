"""What a query costs as a tool: inside a turn, and by the MCP door, each above the same SQL over REST."""

import json
import statistics
import time
from typing import Any

import httpx
import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from tests.benchmarks.lake import sql
from tests.benchmarks.load import Connection
from tests.benchmarks.report import Report
from tests.benchmarks.standing import LAKE, Standing, timed

ROUNDS, WARM = 100, 10
# The demo's own agent asks the lake for this with one query.
CHAT = "/api/v1/schemas/ask-the-lake/chat"
QUESTION = {"message": "How many flights are there?"}


async def tools(standing: Standing, report: Report) -> None:
    """By turns in one run: REST, the tool within a turn (from its call to its result), the official MCP client."""
    report.title(f"A query over REST, as a tool inside a turn, and over /mcp, {ROUNDS} times each")
    taken: dict[str, list[float]] = {"REST": [], "inside a turn": [], "over /mcp": []}
    bearer = {"Authorization": standing.headers["Authorization"]}
    rest = Connection(standing.platform.url)
    async with (
        httpx.AsyncClient(base_url=standing.platform.url, headers=standing.headers, timeout=60) as http,
        httpx2.AsyncClient(headers=bearer, timeout=60) as http2,
        Client(
            streamable_http_client(f"{standing.platform.url}/mcp", http_client=http2),
            mode="2026-07-28",
            cache=None,
        ) as client,
    ):
        for number in range(ROUNDS + WARM):
            query, inside = await _inside_a_turn(http)
            [over_rest] = await timed(rest, f"{LAKE}/sql", standing.headers, sql(query), 1)
            started = time.perf_counter()
            result = await client.call_tool("lake_query", {"query": query})
            outside = time.perf_counter() - started
            if result.is_error:
                raise RuntimeError(f"lake_query: {result.content}")
            if number >= WARM:
                for name, seconds in zip(taken, (over_rest, inside, outside), strict=True):
                    taken[name].append(seconds)
    await rest.close()
    medians = {name: statistics.median(seconds) * 1000 for name, seconds in taken.items()}
    for name, milliseconds in medians.items():
        report.add(f"{name}: p50", f"{milliseconds:.2f} ms")
    more = medians["inside a turn"] - medians["REST"]
    report.add("inside a turn it costs more by", f"{more:.2f} ms", "≤ 10 ms", reached=more <= 10)
    report.add("over /mcp it costs more by", f"{medians['over /mcp'] - medians['REST']:.2f} ms")


async def _inside_a_turn(http: httpx.AsyncClient) -> tuple[str, float]:
    """The query that the agent asked, and the seconds between its call and its result as the client saw them."""
    query, called, seconds, event = "", 0.0, 0.0, ""
    async with http.stream("POST", CHAT, json=QUESTION) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif line.startswith("data: ") and event in ("tool_call", "tool_result"):
                told: dict[str, Any] = json.loads(line.removeprefix("data: "))
                if told["tool"] != "lake_query":
                    continue
                if event == "tool_call":
                    query, called = told["arguments"]["query"], time.perf_counter()
                else:
                    seconds = time.perf_counter() - called
    if not seconds:
        raise RuntimeError("the demo's agent asked no query")
    return query, seconds
