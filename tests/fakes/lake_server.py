"""A fake context lake: answers what a test tells it to, and remembers who asked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from weir_shared.auth.principal import Principal
from weir_shared.auth.tickets import HEADER, TicketInspector


class FakeLake:
    """`answer` and `status` are what the next requests get."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.status = 200
        self.answer: dict[str, Any] = {}
        self.asked: list[tuple[str, Any]] = []
        self.callers: list[Principal] = []
        self.inspector: TicketInspector | None = None

    async def handle(self, request: web.Request) -> web.Response:
        assert self.inspector is not None
        self.callers.append(self.inspector.inspect(request.headers[HEADER]))
        self.asked.append((request.path, await request.json() if request.can_read_body else None))
        return web.json_response(self.answer, status=self.status)


@asynccontextmanager
async def serve_fake_lake() -> AsyncIterator[FakeLake]:
    app = web.Application()
    lakes: list[FakeLake] = []

    async def handle(request: web.Request) -> web.Response:
        return await lakes[0].handle(request)

    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    lakes.append(FakeLake(runner.addresses[0][1]))
    yield lakes[0]
    await runner.cleanup()
