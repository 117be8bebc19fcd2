"""`/api/v1/auth/tokens`: the API tokens of a tenant."""

from datetime import datetime

from litestar import Router, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import Struct

from weir.gateway import tokens
from weir.gateway.credentials import CredentialDesk
from weir.gateway.tables.api_tokens import ApiToken
from weir_shared.auth.guards import requires_scope
from weir_shared.auth.principal import Principal
from weir_shared.auth.scopes import ADMIN
from weir_shared.clock import rfc3339
from weir_shared.db.pool import Database


class NewToken(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a token is to be called and to allow."""

    name: str
    scopes: list[str]


class Token(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A token; `token` is its text, in the answer that creates it and never again."""

    id: str
    name: str
    scopes: list[str]
    prefix: str
    created_at: str
    last_used_at: str | None = None
    token: str | None = None


@post("/")
async def mint_token(
    data: JSONBody[NewToken], principal: NamedDependency[Principal], database: NamedDependency[Database]
) -> Token:
    """Mints a token: `rbk_` when all its scopes are the lake's, else `bb_`."""
    minted = await tokens.mint_token(database, principal, name=data.name, scopes=data.scopes)
    return _shown(minted.stored, minted.token)


@get("/")
async def list_tokens(
    principal: NamedDependency[Principal], database: NamedDependency[Database]
) -> list[Token]:
    """The living tokens, newest first."""
    return [_shown(token) for token in await tokens.list_tokens(database, principal)]


@delete("/{token_id:str}")
async def revoke_token(
    token_id: FromPath[str],
    principal: NamedDependency[Principal],
    database: NamedDependency[Database],
    credentials: NamedDependency[CredentialDesk],
) -> None:
    """Revokes a token; its next use is refused."""
    await tokens.revoke_token(database, principal, token_id)
    await credentials.forget_all()


def _shown(token: ApiToken, text: str | None = None) -> Token:
    return Token(
        id=token.id,
        name=token.name,
        scopes=token.scopes,
        prefix=token.prefix,
        created_at=rfc3339(token.created_at),
        last_used_at=_moment(token.last_used_at),
        token=text,
    )


def _moment(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None


api_tokens = Router(
    "/api/v1/auth/tokens",
    route_handlers=[mint_token, list_tokens, revoke_token],
    guards=[requires_scope(ADMIN)],
    tags=["authentication"],
)
