"""Before anything is done for a request: a place among those that are being worked on, or a refusal that costs little."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from weir.gateway.credentials import CredentialDesk, read_credential
from weir.gateway.places import Place, Places
from weir.gateway.relay import Room, send_error
from weir_shared.errors import Unauthorized, WeirError
from weir_shared.telemetry.middleware import UNLOGGED
from weir_shared.web.errors import render_engine_error

Handler = Callable[[Any, Any, Any], Awaitable[None]]

OWN = "gateway"
# Whoever has not shown a good credential yet: all of them together are as one tenant.
STRANGERS = ""
# What waits for somebody else, a query, a model, a runtime or a file, by the last word of its path. It costs memory
# more than work, so there are more places for it, and they are none of the others'.
PATIENT = frozenset(
    {
        "chat",
        "completions",
        "files",
        "imports",
        "mcp",
        "refresh",
        "respond",
        "search",
        "sql",
        "start",
        "stop",
        "verify",
    }
)
TIMES_AS_MANY = 8


class Doorkeeper:
    """Gives each request a place until its answer begins; a room that hangs takes the places of no other."""

    def __init__(self, rooms: Sequence[Room], requests_at_once: int) -> None:
        names = {OWN, *(room.audience for room in rooms)}
        self._quick = {name: Places(requests_at_once) for name in names}
        self._patient = {name: Places(TIMES_AS_MANY * requests_at_once) for name in names}

    async def let_in(
        self,
        credentials: CredentialDesk,
        room: Room | None,
        handler: Handler,
        scope: Any,
        receive: Any,
        send: Any,
    ) -> None:
        try:
            place = await self._places_of(room, scope).take(_tenant(credentials, scope))
        except WeirError as error:
            # There may be thousands of them a second: they are counted.
            scope.setdefault("state", {})[UNLOGGED] = True
            await send_error(error, room.render_error if room else render_engine_error, scope, send)
            return
        try:
            await handler(scope, receive, _leaving(place, send))
        finally:
            place.leave()

    def _places_of(self, room: Room | None, scope: Any) -> Places:
        is_patient = scope["method"] == "POST" and scope["path"].rpartition("/")[2] in PATIENT
        return (self._patient if is_patient else self._quick)[room.audience if room else OWN]


def _tenant(credentials: CredentialDesk, scope: Any) -> str:
    """Whose request it seems to be: nothing is verified here that was not verified before."""
    try:
        return credentials.tenant_of(read_credential(scope["headers"])) or STRANGERS
    except Unauthorized:
        return STRANGERS


def _leaving(place: Place, send: Any) -> Any:
    """Sends an answer, and leaves the place when it begins."""

    async def send_on(message: Any) -> None:
        if message["type"] == "http.response.start":
            place.leave()
        await send(message)

    return send_on
