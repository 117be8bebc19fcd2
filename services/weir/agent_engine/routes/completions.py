"""/v1: what OpenAI's clients ask for"""

from typing import Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody

from weir.agent_engine import completions
from weir.agent_engine.chat import Brought
from weir.agent_engine.forwarded import forwarded_headers
from weir.agent_engine.models.own_key import own_model_in
from weir.agent_engine.routes.streams import StreamedOperation, event_stream
from weir.agent_engine.studio import Studio
from weir.agent_engine.wire.completions import Completion, CompletionRequest, ModelCard, ModelCards
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal

GUARDS = [requires_scope("chat")]
WHOLE = ResponseSpec(
    data_container=Completion,
    description="The answer at once; with `stream: true` as chunks, `[DONE]` last",
    generate_examples=False,
)


@post(
    "/chat/completions",
    guards=GUARDS,
    status_code=200,
    responses={200: WHOLE},
    operation_class=StreamedOperation,
)
async def complete(
    studio: NamedDependency[Studio],
    principal: NamedDependency[Principal],
    data: JSONBody[CompletionRequest],
    request: Request[Any, Any, Any],
) -> Response[Any]:
    """Answers the last of the messages by a turn of the schema that `model` names.

    The messages before it are the turn's history. With `X-Session-Id` the session that it names has the history
    instead; every answer names its session there. The turn goes on when the client goes away.
    """
    brought = Brought(
        own=own_model_in(request.headers), forwarded=forwarded_headers(request.scope["headers"])
    )
    opened = await completions.open_completion(
        studio, principal, data, request.headers.get(completions.SESSION), brought
    )
    session_id = opened.turn.session_id
    if data.stream:
        return event_stream(completions.streamed_completion(opened), session_id)
    return Response(await completions.whole_completion(opened), headers={completions.SESSION: session_id})


@get("/models", guards=GUARDS)
async def list_models(studio: NamedDependency[Studio], principal: NamedDependency[Principal]) -> ModelCards:
    """The tenant's schemas that are open for chat, oldest first, each as a model."""
    return await completions.list_models(studio.database, principal)


@get("/models/{name:str}", guards=GUARDS)
async def read_model(
    studio: NamedDependency[Studio], principal: NamedDependency[Principal], name: FromPath[str]
) -> ModelCard:
    """One schema that is open for chat, by its name or its id."""
    return await completions.read_model(studio.database, principal, name)


ROUTES = [complete, list_models, read_model]
