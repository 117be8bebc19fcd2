"""API tokens: minting, listing, revoking. Only a token's SHA-256 is kept; it is shown once."""

import hashlib
import secrets
from collections.abc import Sequence

from msgspec import Struct

from weir.gateway.tables import api_tokens
from weir.gateway.tables.api_tokens import ApiToken
from weir_shared.auth.principal import DEFAULT_TENANT_ID, Principal
from weir_shared.auth.scopes import ALL_SCOPES, is_lake_only, unknown_scopes
from weir_shared.db.pool import Database, UniqueViolation
from weir_shared.errors import Conflict, FieldError, NotFound, ValidationFailed
from weir_shared.ids import new_id, parse_uuid

RANDOM_BYTES = 32
SHOWN_PREFIX = 12
MAX_NAME = 100
BOOTSTRAP_NAME = "bootstrap-admin"


class MintedToken(Struct, frozen=True, kw_only=True):
    """A new token and, this once, its text."""

    stored: ApiToken
    token: str


def hash_token(token: str) -> bytes:
    # A plain hash is enough: the token is 256 random bits, there is nothing to guess.
    return hashlib.sha256(token.encode()).digest()


async def mint_token(
    database: Database, principal: Principal, *, name: str, scopes: Sequence[str]
) -> MintedToken:
    """A new token of the caller's tenant. Raises ValidationFailed, or Conflict for a name in use."""
    _check_token(name, scopes)
    kind = "rbk" if is_lake_only(scopes) else "bb"
    token = f"{kind}_{secrets.token_hex(RANDOM_BYTES)}"
    try:
        async with database.tenant(principal.tenant_id) as connection:
            stored = await api_tokens.insert_token(
                connection,
                tenant_id=principal.tenant_id,
                token_id=new_id(),
                name=name,
                token_hash=hash_token(token),
                prefix=token[:SHOWN_PREFIX],
                scopes=list(dict.fromkeys(scopes)),
                created_by=principal.identity,
            )
    except UniqueViolation:
        raise Conflict(f"A token named '{name}' exists already") from None
    return MintedToken(stored=stored, token=token)


async def list_tokens(database: Database, principal: Principal) -> list[ApiToken]:
    async with database.tenant(principal.tenant_id) as connection:
        return await api_tokens.list_tokens(connection, principal.tenant_id)


async def revoke_token(database: Database, principal: Principal, token_id: str) -> None:
    """Raises NotFound for a token that the tenant does not hold, or no longer."""
    known = parse_uuid(token_id)
    async with database.tenant(principal.tenant_id) as connection:
        if known is None or not await api_tokens.revoke_token(connection, principal.tenant_id, known):
            raise NotFound("There is no such token")


async def put_bootstrap_token(database: Database, token: str) -> None:
    """Makes the operator's token admin of the default tenant."""
    async with database.any_tenant() as connection:
        await api_tokens.put_bootstrap_token(
            connection,
            tenant_id=DEFAULT_TENANT_ID,
            token_id=new_id(),
            name=BOOTSTRAP_NAME,
            token_hash=hash_token(token),
            prefix=token[:SHOWN_PREFIX],
        )


def _check_token(name: str, scopes: Sequence[str]) -> None:
    errors: list[FieldError] = []
    if not name.strip() or len(name) > MAX_NAME or any(ord(sign) < 32 for sign in name):
        errors.append(FieldError(path="name", message=f"name must be 1 to {MAX_NAME} printable characters"))
    if not scopes:
        errors.append(FieldError(path="scopes", message="scopes must name at least one scope"))
    for unknown in unknown_scopes(scopes):
        known = ", ".join(sorted(ALL_SCOPES))
        errors.append(
            FieldError(path="scopes", message=f"'{unknown}' is not a scope; the scopes are {known}")
        )
    if errors:
        raise ValidationFailed(errors)
