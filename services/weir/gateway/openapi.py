"""One OpenAPI document for the platform: the gateway's own routes and those of the rooms behind it."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec

from weir_shared.errors import Unavailable

READ_SECONDS = 5.0
CACHE_SECONDS = 30.0

SECURITY = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A session (JWT) or an API token (`bb_…`, `rbk_…`).",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "API_KEY", "description": "An API token."},
}


class MergedDocument:
    """The joined document, read anew from the rooms every half minute."""

    def __init__(self, session: aiohttp.ClientSession, own: dict[str, Any], rooms: Mapping[str, str]) -> None:
        self._session = session
        self._own = own
        self._rooms = rooms
        self._last: tuple[float, dict[str, Any]] | None = None

    async def read(self) -> dict[str, Any]:
        """Raises Unavailable when a room does not tell its routes."""
        if self._last is None or time.monotonic() - self._last[0] > CACHE_SECONDS:
            documents = await asyncio.gather(*(self._read_room(url) for url in self._rooms.values()))
            merged = merge_documents(self._own, dict(zip(self._rooms, documents, strict=True)))
            self._last = (time.monotonic(), merged)
        return self._last[1]

    async def _read_room(self, url: str) -> dict[str, Any]:
        try:
            async with (
                asyncio.timeout(READ_SECONDS),
                self._session.get(url + "/schema/openapi.json") as response,
            ):
                response.raise_for_status()
                return msgspec.json.decode(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError):
            raise Unavailable(
                "A service behind the gateway did not tell its routes; try again shortly"
            ) from None


def merge_documents(own: dict[str, Any], rooms: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The paths of all; a component whose name another one already has for something else gets its room's name."""
    merged = msgspec.json.decode(msgspec.json.encode(own))
    components = merged.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for room, document in rooms.items():
        theirs = document.get("components", {}).get("schemas", {})
        renamed = {
            name: _qualified(room, name) for name in theirs if schemas.get(name, theirs[name]) != theirs[name]
        }
        document = _renamed(document, renamed)  # noqa: PLW2901
        merged.setdefault("paths", {}).update(document.get("paths", {}))
        schemas.update(document.get("components", {}).get("schemas", {}))
    components["securitySchemes"] = SECURITY
    merged["security"] = [{"bearer": []}, {"apiKey": []}]
    return merged


def _qualified(room: str, name: str) -> str:
    return "".join(part.capitalize() for part in room.split("-")) + name


def _renamed(document: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    if not names:
        return document
    text = msgspec.json.encode(document).decode()
    for old, new in names.items():
        text = text.replace(f'"#/components/schemas/{old}"', f'"#/components/schemas/{new}"')
    changed = msgspec.json.decode(text)
    schemas = changed["components"]["schemas"]
    for old, new in names.items():
        schemas[new] = schemas.pop(old)
    return changed
