"""`/api/v1/auth/local-session`: sessions of the local admin, in local mode only."""

from typing import Any

from litestar import Request, Router, post
from litestar.di import NamedDependency
from msgspec import Struct

from weir.gateway.credentials import InvalidCredential, read_credential
from weir_shared.auth.guards import checked_by_handler, open_to_all
from weir_shared.auth.jwt import InvalidToken, mint_session, verify_session
from weir_shared.auth.keys import KeyPair


class LocalSession(Struct, frozen=True, kw_only=True):
    """A session and when it ends (RFC 3339)."""

    access_token: str
    expires_at: str
    token_type: str = "Bearer"  # noqa: S105


@post("/", status_code=200, guards=[open_to_all])
async def open_local_session(
    keys: NamedDependency[KeyPair], session_seconds: NamedDependency[int]
) -> LocalSession:
    """Opens a session that is admin of the default tenant."""
    token, expires_at = mint_session(keys, session_seconds)
    return LocalSession(access_token=token, expires_at=expires_at)


@post("/refresh", status_code=200, guards=[checked_by_handler])
async def refresh_local_session(
    request: Request[Any, Any, Any], keys: NamedDependency[KeyPair], session_seconds: NamedDependency[int]
) -> LocalSession:
    """Renews a session that has not ended yet, for the same subject and tenant."""
    try:
        claims = verify_session(read_credential(request.scope["headers"]), keys.public)
    except InvalidToken:
        raise InvalidCredential("The session is invalid or has expired") from None
    token, expires_at = mint_session(keys, session_seconds, claims)
    return LocalSession(access_token=token, expires_at=expires_at)


local_sessions = Router(
    "/api/v1/auth/local-session",
    route_handlers=[open_local_session, refresh_local_session],
    tags=["authentication"],
)
