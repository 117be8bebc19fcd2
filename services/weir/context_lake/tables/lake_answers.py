"""`lake_answers`: what was answered to changes that carried an Idempotency-Key."""

from msgspec import Struct

from weir_shared.db.pool import Connection

KEPT_HOURS = 24


class KeptAnswer(Struct, frozen=True, kw_only=True):
    request_hash: bytes
    status: int
    headers: dict[str, str]
    body: bytes


async def find_answer(connection: Connection, tenant_id: str, author: str, key: str) -> KeptAnswer | None:
    row = await connection.fetchrow(
        """
        select request_hash, status, headers, body from lake_answers
        where tenant_id = $1 and author = $2 and key = $3 and created_at > now() - make_interval(hours => $4)
        """,
        tenant_id,
        author,
        key,
        KEPT_HOURS,
    )
    return KeptAnswer(**dict(row)) if row else None


async def keep_answer(
    connection: Connection, tenant_id: str, author: str, key: str, answer: KeptAnswer
) -> None:
    """Within the transaction of the change itself; one that is too old makes way."""
    await connection.execute(
        """
        insert into lake_answers (tenant_id, author, key, request_hash, status, headers, body)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (tenant_id, author, key) do update set
            request_hash = excluded.request_hash, status = excluded.status, headers = excluded.headers,
            body = excluded.body, created_at = now()
        """,
        tenant_id,
        author,
        key,
        answer.request_hash,
        answer.status,
        answer.headers,
        answer.body,
    )


async def forget_old_any(connection: Connection) -> None:
    """Answers of any tenant that nobody may ask for again."""
    await connection.execute(
        "delete from lake_answers where created_at < now() - make_interval(hours => $1)", KEPT_HOURS
    )
