"""/mcp: the platform for clients of the Model Context Protocol"""

import asyncio
import sys
from importlib import import_module
from typing import Any

from litestar import Request, asgi
from litestar.types import HTTPScope, Receive, Send

from weir.agent_engine.chat import Brought
from weir.agent_engine.forwarded import forwarded_headers
from weir.agent_engine.models.own_key import own_model_in
from weir_shared.auth.guards import requires_caller
from weir_shared.errors import MethodNotAllowed

DOOR = "weir.agent_engine.mcp_door"


@asgi("/mcp", guards=[requires_caller], copy_scope=False)
async def mcp(scope: HTTPScope, receive: Receive, send: Send) -> None:
    """One message of MCP over streamable HTTP; what it may call goes by the caller's scopes."""
    request: Request[Any, Any, Any] = Request(scope, receive)
    if scope["method"] != "POST":
        raise MethodNotAllowed(
            "There are no sessions to follow or to end here: send POST", headers={"allow": "POST"}
        )
    brought = Brought(own=own_model_in(request.headers), forwarded=forwarded_headers(scope["headers"]))
    # Loaded with the first such request: the library takes half a second and 60 MB.
    mcp_door = sys.modules.get(DOOR) or await asyncio.to_thread(import_module, DOOR)
    visitor = mcp_door.Visitor(scope["state"]["principal"], brought)
    await mcp_door.serve(scope["litestar_app"].state.studio, visitor, scope, receive, send)


ROUTES = [mcp]
