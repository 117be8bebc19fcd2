"""What the room's routes ask of a request besides its scopes."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from weir_shared.errors import UnsupportedMediaType


async def requires_json(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Refuses a body that says it is something else; one that says nothing is read as JSON."""
    media_type = connection.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType("A body is application/json")
