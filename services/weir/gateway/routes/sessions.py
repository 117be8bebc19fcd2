"""`/api/v1/auth/local-session`: sessions of the local admin, in local mode only."""

from typing import Any

from litestar import Request, Router, post
from litestar.di import NamedDependency
from msgspec import Struct

from weir.gateway.audit import Trail
from weir.gateway.credentials import CredentialDesk, InvalidCredential, read_credential
from weir_shared.auth.guards import checked_by_handler, open_to_all
from weir_shared.auth.jwt import InvalidToken, mint_session, principal_of, verify_session
from weir_shared.auth.keys import KeyPair
from weir_shared.auth.principal import Principal
from weir_shared.errors import Unauthorized


class LocalSession(Struct, frozen=True, kw_only=True):
    """A session and when it ends (RFC 3339)."""

    access_token: str
    expires_at: str
    token_type: str = "Bearer"  # noqa: S105


@post("/", status_code=200, guards=[open_to_all])
async def open_local_session(
    request: Request[Any, Any, Any],
    keys: NamedDependency[KeyPair],
    session_seconds: NamedDependency[int],
    trail: NamedDependency[Trail],
) -> LocalSession:
    """Opens a session that is admin of the default tenant."""
    token, expires_at = mint_session(keys, session_seconds)
    await trail.signed_in(principal_of(verify_session(token, keys.public)), request.scope)
    return LocalSession(access_token=token, expires_at=expires_at)


@post("/refresh", status_code=200, guards=[checked_by_handler])
async def refresh_local_session(
    request: Request[Any, Any, Any],
    keys: NamedDependency[KeyPair],
    session_seconds: NamedDependency[int],
    credentials: NamedDependency[CredentialDesk],
    trail: NamedDependency[Trail],
) -> LocalSession:
    """Renews a session that has not ended yet, for the same subject and tenant."""
    try:
        claims, principal = await _read_session(request, keys, credentials)
    except Unauthorized as error:
        await trail.unrecognised(request.scope, error)
        raise
    token, expires_at = mint_session(keys, session_seconds, claims)
    await trail.signed_in(principal, request.scope)
    return LocalSession(access_token=token, expires_at=expires_at)


async def _read_session(
    request: Request[Any, Any, Any], keys: KeyPair, credentials: CredentialDesk
) -> tuple[dict[str, Any], Principal]:
    credential = read_credential(request.scope["headers"])
    try:
        claims = verify_session(credential, keys.public)
    except InvalidToken:
        raise InvalidCredential("The session is invalid or has expired") from None
    return claims, await credentials.recognise(credential)


local_sessions = Router(
    "/api/v1/auth/local-session",
    route_handlers=[open_local_session, refresh_local_session],
    tags=["authentication"],
)
