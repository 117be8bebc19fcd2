"""A tool whose server counts what it is asked, a model that calls it, and the log of its calls."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from aiohttp import web
from tests.fakes.model_server import Brain, Reply, say, use
from tests.serving import free_port

NAME = "counting"


class Asking(Brain):
    """Stands in for a model: calls the tool with what the user has said, and then says that it is done."""

    def next(self, request: dict[str, Any], headers: dict[str, str]) -> Reply:
        del headers
        last = request["messages"][-1]
        return use(NAME, {"id": last["content"]}) if last["role"] == "user" else say("done")


class Tool:
    """The server of the tool: counts what it is asked, by the id, and answers only while it is let."""

    def __init__(self) -> None:
        self.calls = Counter[str]()
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0

    async def count(self, request: web.Request) -> web.Response:
        self.calls[request.query["id"]] += 1
        self.waiting += 1
        try:
            await self.open.wait()
        finally:
            self.waiting -= 1
        return web.json_response({"counted": True})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app, port = web.Application(), free_port()
        app.router.add_get("/count", self.count)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield f"http://127.0.0.1:{port}/count?id={{{{id}}}}"
        finally:
            await runner.cleanup()


async def make_agent(client: httpx.AsyncClient, base_url: str, tool_url: str) -> None:
    params = [{"name": "id", "type": "string", "required": True}]
    document = {
        "models": [{"name": NAME, "type": "openai_compatible", "model_name": NAME, "base_url": base_url}],
        "tools": {NAME: {"type": "http", "url": tool_url, "params": params}},
        "agents": [{"name": NAME, "model": NAME, "tools": [NAME]}],
        "schemas": [{"name": NAME, "entry_agent": NAME, "chat_enabled": True}],
    }
    sent = await client.post("/api/v1/config/import", json=document)
    assert sent.status_code == 200 and sent.json()["imported"], sent.text


async def logged(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    rows, number = list[dict[str, Any]](), 1
    while True:
        page = (await client.get(f"/api/v1/audit/tool-calls?tool={NAME}&per_page=100&page={number}")).json()
        rows += page["data"]
        if number >= page["total_pages"]:
            return rows
        number += 1
