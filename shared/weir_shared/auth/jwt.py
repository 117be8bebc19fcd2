"""Sessions as Ed25519-signed JWTs: minting our own, verifying ours or an external issuer's."""

from datetime import timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from weir_shared import clock
from weir_shared.auth.keys import KeyPair
from weir_shared.auth.principal import DEFAULT_TENANT_ID, Principal
from weir_shared.auth.scopes import ADMIN, ALL_SCOPES
from weir_shared.ids import parse_uuid

# Two families of algorithms in one call accept forged tokens, so this list never grows.
ALGORITHMS = ["EdDSA"]
MAX_TOKEN_BYTES = 8192
LEEWAY_SECONDS = 30
LOCAL_SUBJECT = "local-admin"


class InvalidToken(Exception):
    """A JWT that proves nothing; the message says why, for the log only."""


def mint_session(keys: KeyPair, seconds: int, claims: dict[str, Any] | None = None) -> tuple[str, str]:
    """A signed session of the local admin and the moment it ends (RFC 3339).

    `claims` are those of a session that is renewed; identity, tenant and scope are kept.
    """
    issued = clock.now()
    expires = issued + timedelta(seconds=seconds)
    kept = {key: (claims or {})[key] for key in ("sub", "tenant_id", "scope") if key in (claims or {})}
    body = {"sub": LOCAL_SUBJECT, **kept, "iat": issued, "exp": expires}
    return jwt.encode(body, keys.private, algorithm=ALGORITHMS[0]), clock.rfc3339(expires)


def verify_session(token: str, key: Ed25519PublicKey) -> dict[str, Any]:
    """The claims of a token that this key signed and that has not expired. Raises InvalidToken."""
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidToken("longer than 8 KiB")
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=ALGORITHMS,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "sub"], "verify_aud": False},
        )
    except (jwt.PyJWTError, ValueError, RecursionError) as fault:
        raise InvalidToken(str(fault)) from None
    return claims


def principal_of(claims: dict[str, Any]) -> Principal:
    """The caller that verified claims describe. Raises InvalidToken for claims of the wrong kind.

    No `tenant_id` (or an empty one) is the default tenant; no `scope` is an admin of the tenant.
    """
    tenant_claim = claims.get("tenant_id") or DEFAULT_TENANT_ID
    tenant_id = parse_uuid(tenant_claim) if isinstance(tenant_claim, str) else None
    subject = claims["sub"]
    if tenant_id is None or not isinstance(subject, str) or not subject or "\0" in subject:
        raise InvalidToken("tenant_id must be a UUID and sub a text")
    return Principal(tenant_id=tenant_id, subject=subject, actor="user", scopes=_scopes_of(claims))


def _scopes_of(claims: dict[str, Any]) -> frozenset[str]:
    if "scope" not in claims:
        return frozenset({ADMIN})
    if not isinstance(claims["scope"], str):
        raise InvalidToken("scope must be a text of names separated by spaces")
    return frozenset(claims["scope"].split()) & ALL_SCOPES
