"""`lake_webhooks` and `lake_webhook_triggers`: a lake's inbound webhook, known by its token's hash only."""

from datetime import datetime

from msgspec import Struct

from weir_shared.db.pool import Connection


class Webhook(Struct, frozen=True, kw_only=True):
    hint: str
    """The beginning of the token, by which its owner tells one from another."""
    created_at: datetime
    last_called_at: datetime | None = None


async def find_webhook(connection: Connection, tenant_id: str) -> Webhook | None:
    row = await connection.fetchrow(
        "select hint, created_at, last_called_at from lake_webhooks where tenant_id = $1", tenant_id
    )
    return Webhook(**dict(row)) if row else None


async def add_webhook(connection: Connection, tenant_id: str, token_hash: bytes, hint: str) -> Webhook | None:
    """None when the lake has one already."""
    row = await connection.fetchrow(
        """
        insert into lake_webhooks (tenant_id, token_hash, hint) values ($1, $2, $3)
        on conflict (tenant_id) do nothing
        returning hint, created_at, last_called_at
        """,
        tenant_id,
        token_hash,
        hint,
    )
    return Webhook(**dict(row)) if row else None


async def put_webhook(connection: Connection, tenant_id: str, token_hash: bytes, hint: str) -> Webhook:
    """The token of before is good for nothing from now on."""
    row = await connection.fetchrow(
        """
        insert into lake_webhooks (tenant_id, token_hash, hint) values ($1, $2, $3)
        on conflict (tenant_id) do update
            set token_hash = excluded.token_hash, hint = excluded.hint, created_at = now(), last_called_at = null
        returning hint, created_at, last_called_at
        """,
        tenant_id,
        token_hash,
        hint,
    )
    assert row is not None
    return Webhook(**dict(row))


async def find_any_owner(connection: Connection, token_hash: bytes) -> str | None:
    """The tenant whose webhook has this token."""
    return await connection.fetchval("select tenant_id from lake_webhooks where token_hash = $1", token_hash)


async def note_call(connection: Connection, tenant_id: str) -> None:
    await connection.execute(
        "update lake_webhooks set last_called_at = now() where tenant_id = $1", tenant_id
    )


async def trigger(connection: Connection, tenant_id: str, name: str, *, seconds: float) -> bool:
    """Whether a call for one dataset (or '': for all) has an effect: none had within so many seconds."""
    # A call for everything was a call for each.
    triggered = await connection.fetchval(
        """
        insert into lake_webhook_triggers as t (tenant_id, name)
        select $1, $2 where not exists (
            select from lake_webhook_triggers
            where tenant_id = $1 and name = '' and triggered_at > now() - make_interval(secs => $3)
        )
        on conflict (tenant_id, name) do update set triggered_at = now()
            where t.triggered_at <= now() - make_interval(secs => $3)
        returning true
        """,
        tenant_id,
        name,
        seconds,
    )
    return triggered is not None
