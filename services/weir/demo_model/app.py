"""The demo model as a service on loopback."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from litestar import Litestar, Response, get, post
from litestar.params import JSONBody
from litestar.response import Stream

from weir.demo_model import wire
from weir.demo_model.plan import plan
from weir.demo_model.wire import Asked
from weir_shared.auth.guards import open_to_all
from weir_shared.errors import WeirError
from weir_shared.settings import Settings
from weir_shared.web.app import create_service
from weir_shared.web.server import address_of, serve


@get("/v1/models", guards=[open_to_all], sync_to_thread=False)
def list_models() -> dict[str, Any]:
    """The one model there is."""
    return wire.model_list()


@post("/v1/chat/completions", guards=[open_to_all], status_code=200)
async def complete(data: JSONBody[Asked]) -> Response[Any]:
    """What the script says next, whole or as a stream."""
    tools = frozenset(tool.function.name for tool in data.tools or ())
    move = plan(wire.conversation(data), tools)
    if data.stream:
        return Stream(_sent(wire.streamed(data, move)), media_type="text/event-stream")
    return Response(wire.whole(data, move))


async def _sent(events: Iterator[bytes]) -> AsyncIterator[bytes]:
    for event in events:
        yield event


def create_app() -> Litestar:
    return create_service(
        service="demo-model",
        title="Weir scripted demo model",
        routes=[list_models, complete],
        render_error=_render_error,
    )


def serve_demo_model(settings: Settings) -> int:
    """Serves until SIGTERM; the exit code."""
    host, port = address_of(settings.demo_model_url)
    serve(create_app(), host=host, port=port)
    return 0


def _render_error(error: WeirError, _: str) -> dict[str, Any]:
    return wire.error(error.message)
