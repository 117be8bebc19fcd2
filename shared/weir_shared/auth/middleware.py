"""The doorkeeper of a room: no request gets in without a ticket for this room."""

from litestar.types import ASGIApp, Receive, Scope, Send

from weir_shared.auth.tickets import HEADER, InvalidTicket, TicketInspector
from weir_shared.errors import Unauthorized

_HEADER = HEADER.encode()


class TicketMiddleware:
    """Puts the caller of a valid ticket into the request's state; refuses every other request."""

    def __init__(self, app: ASGIApp, inspector: TicketInspector) -> None:
        self.app = app
        self._inspector = inspector

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            ticket = next((value for name, value in scope["headers"] if name == _HEADER), b"")
            try:
                principal = self._inspector.inspect(ticket.decode("latin-1"))
            except InvalidTicket:
                raise Unauthorized("This service is called through the gateway only") from None
            scope.setdefault("state", {})["principal"] = principal
        await self.app(scope, receive, send)
