"""`api_tokens`: the hashes of the tokens that tenants hold."""

from datetime import datetime

from msgspec import Struct

from weir_shared.db.pool import Connection


class ApiToken(Struct, frozen=True, kw_only=True):
    """A token as its tenant may see it; the token itself is kept nowhere."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime | None = None


class TokenHolder(Struct, frozen=True, kw_only=True):
    """Whom a token belongs to."""

    id: str
    tenant_id: str
    name: str
    scopes: frozenset[str]


async def insert_token(
    connection: Connection,
    *,
    tenant_id: str,
    token_id: str,
    name: str,
    token_hash: bytes,
    prefix: str,
    scopes: list[str],
    created_by: str,
) -> ApiToken:
    """Raises UniqueViolation when the tenant has a living token of that name."""
    row = await connection.fetchrow(
        """
        insert into api_tokens (tenant_id, id, name, token_hash, prefix, scopes, created_by)
        values ($1, $2, $3, $4, $5, $6, $7)
        returning id, name, prefix, scopes, created_at, last_used_at
        """,
        tenant_id,
        token_id,
        name,
        token_hash,
        prefix,
        scopes,
        created_by,
    )
    assert row is not None
    return ApiToken(**dict(row))


async def list_tokens(connection: Connection, tenant_id: str) -> list[ApiToken]:
    rows = await connection.fetch(
        """
        select id, name, prefix, scopes, created_at, last_used_at
        from api_tokens
        where tenant_id = $1 and revoked_at is null
        order by created_at desc, id
        """,
        tenant_id,
    )
    return [ApiToken(**dict(row)) for row in rows]


async def revoke_token(connection: Connection, tenant_id: str, token_id: str) -> bool:
    """Whether there was a living token of that id to revoke."""
    revoked = await connection.fetchval(
        """
        update api_tokens set revoked_at = now()
        where tenant_id = $1 and id = $2 and revoked_at is null
        returning id
        """,
        tenant_id,
        token_id,
    )
    return revoked is not None


async def find_any_holder(connection: Connection, token_hash: bytes) -> TokenHolder | None:
    """Whoever holds the token, of any tenant: the tenant is what the look-up finds out."""
    row = await connection.fetchrow(
        "select id, tenant_id, name, scopes from api_tokens where token_hash = $1 and revoked_at is null",
        token_hash,
    )
    if row is None:
        return None
    return TokenHolder(
        id=row["id"], tenant_id=row["tenant_id"], name=row["name"], scopes=frozenset(row["scopes"])
    )


async def stamp_any_use(connection: Connection, token_ids: list[str]) -> None:
    await connection.execute(
        "update api_tokens set last_used_at = now() where id = any($1::uuid[])", token_ids
    )


async def put_bootstrap_token(
    connection: Connection, *, tenant_id: str, token_id: str, name: str, token_hash: bytes, prefix: str
) -> None:
    """Makes the operator's own admin token, or gives it its new value."""
    await connection.execute(
        """
        insert into api_tokens (tenant_id, id, name, token_hash, prefix, scopes, created_by)
        values ($1, $2, $3, $4, $5, array['admin'], 'operator')
        on conflict (tenant_id, name) where revoked_at is null
        do update set token_hash = excluded.token_hash, prefix = excluded.prefix, scopes = excluded.scopes
        """,
        tenant_id,
        token_id,
        name,
        token_hash,
        prefix,
    )
