"""The worker's small door: its metrics for the operator."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiohttp import web

from weir_shared.telemetry.metrics import CONTENT_TYPE, exposition
from weir_shared.web.server import address_of


@asynccontextmanager
async def served_metrics(url: str) -> AsyncGenerator[None, None]:
    """Serves `/metrics` at the address of this URL."""
    app = web.Application()
    app.router.add_get("/metrics", _tell_metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, port = address_of(url)
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()


async def _tell_metrics(_: web.Request) -> web.Response:
    return web.Response(body=exposition(), headers={"content-type": CONTENT_TYPE})
