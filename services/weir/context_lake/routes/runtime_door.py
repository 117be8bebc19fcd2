"""The runtimes' own door, before the room's: no ticket opens it, only the secret of a runtime that lives."""

from typing import Any, cast

import msgspec
from litestar import Litestar
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from weir.context_lake.embedding import EmbeddingDesk, RuntimeIdentity
from weir_shared.clients.engine import DIMENSION_HEADER, MODEL_HEADER, WantedEmbeddings
from weir_shared.errors import InvalidRequest, MethodNotAllowed, PayloadTooLarge, WeirError
from weir_shared.web.app import MAX_BODY_BYTES
from weir_shared.web.leaving import CallerLeft, unless_gone

PATH = "/internal/runtime/embeddings"


def runtime_door(app: Litestar) -> ASGIApp:
    """What stands before the room's routes: it answers on `PATH`, and lets everything else pass."""

    room = app.asgi_handler  # as it is now: later it is what stands around this door

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH:
            await room(scope, receive, send)
            return
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("Texts are embedded by POST", headers={"allow": "POST"})
            wanted = _wanted(await _body(receive))
            desk = cast(EmbeddingDesk, app.state.embedding_desk)
            vectors = await unless_gone(desk.embed(_identity(scope), wanted), receive)
        except CallerLeft:
            return
        except WeirError as error:
            body = msgspec.json.encode({"error": error.message, "code": error.code})
            await _send(send, error.status, body, {"content-type": "application/json"} | error.headers)
            return
        headers = {MODEL_HEADER: vectors.model, DIMENSION_HEADER: str(vectors.dimension)}
        await _send(send, 200, vectors.content, {"content-type": "application/octet-stream"} | headers)

    return door


def _identity(scope: Any) -> RuntimeIdentity:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return RuntimeIdentity(
        headers.get("x-weir-tenant", ""),
        headers.get("x-weir-epoch", ""),
        headers.get("x-weir-runtime-secret", ""),
    )


def _wanted(body: bytes) -> WantedEmbeddings:
    try:
        return msgspec.json.decode(body, type=WantedEmbeddings)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        raise InvalidRequest(f"The body is not what this route reads: {fault}") from None


async def _body(receive: Receive) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = cast(dict[str, Any], await receive())
        if message["type"] == "http.disconnect":
            raise InvalidRequest("The request ended before its body")
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > MAX_BODY_BYTES:
            raise PayloadTooLarge(f"A body has at most {MAX_BODY_BYTES} bytes")
        if not message.get("more_body", False):
            return b"".join(pieces)


async def _send(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    told = [(name.encode(), value.encode()) for name, value in headers.items()]
    told.append((b"content-length", str(len(body)).encode()))
    await send(cast(Message, {"type": "http.response.start", "status": status, "headers": told}))
    await send(cast(Message, {"type": "http.response.body", "body": body, "more_body": False}))
