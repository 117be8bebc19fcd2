"""/api/v1/schemas/{name}/chat"""

from typing import Any

from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody

from weir.agent_engine.chat import Brought, open_chat, whole_answer
from weir.agent_engine.forwarded import forwarded_headers
from weir.agent_engine.models.own_key import own_model_in
from weir.agent_engine.routes.streams import StreamedOperation, event_stream
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.chat import ChatAnswer, ChatRequest
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal

WHOLE = ResponseSpec(
    data_container=ChatAnswer,
    description="The turn's events, `done` last; with `stream: false` the answer at once",
    generate_examples=False,
)


@post(
    "/schemas/{name:str}/chat",
    guards=[requires_scope("chat")],
    status_code=200,
    responses={200: WHOLE},
    operation_class=StreamedOperation,
)
async def chat(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    name: FromPath[str],
    data: JSONBody[ChatRequest],
    request: Request[Any, Any, Any],
) -> Response[Any]:
    """Sends a message and streams the turn that answers it as server-sent events.

    The turn goes on when the client goes away. With `stream: false` the answer is one JSON object.
    Where the tenant allows it, `X-Model-Provider`, `X-Model-API-Key`, `X-Model-Name` and `X-Model-Base-URL`
    bring a model of the caller's own for this request.
    """
    brought = Brought(
        own=own_model_in(request.headers),
        forwarded=forwarded_headers(request.scope["headers"], data.headers),
    )
    opened = await open_chat(studio, principal, name, data, brought)
    if data.stream:
        return event_stream(opened.follow(), opened.session_id)
    return Response(await whole_answer(opened), headers={"X-Session-Id": opened.session_id})


ROUTES = [chat]
