"""/api/v1/schemas/{name}/chat"""

from typing import Any

from litestar import Response, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from weir.agent_engine.chat import open_chat, whole_answer
from weir.agent_engine.routes.streams import event_stream
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.chat import ChatRequest
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal


@post("/schemas/{name:str}/chat", guards=[requires_scope("chat")], status_code=200)
async def chat(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    data: JSONBody[ChatRequest],
) -> Response[Any]:
    """Sends a message and streams the turn that answers it as server-sent events.

    The turn goes on when the client goes away. With `stream: false` the answer is one JSON object.
    """
    opened = await open_chat(studio, principal, name, data)
    if data.stream:
        return event_stream(opened.follow(), opened.session_id)
    return Response(await whole_answer(opened), headers={"X-Session-Id": opened.session_id})


ROUTES = [chat]
