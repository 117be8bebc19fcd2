"""The fake MCP server as a program of its own: `python -m tests.benchmarks.mcp_server PORT`.

`GET /seen` tells how often it was asked for what, by the method of the message.
"""

import logging
import sys
from collections import Counter
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.fakes.mcp_server import Seen, make_server, watched


def served() -> Any:
    seen = Seen()

    async def tell(_: Request) -> JSONResponse:
        return JSONResponse(Counter(seen.methods))

    app = make_server().streamable_http_app()
    app.router.routes.append(Route("/seen", tell))
    return watched(app, seen)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    uvicorn.run(served(), host="127.0.0.1", port=int(sys.argv[1]), log_config=None)
