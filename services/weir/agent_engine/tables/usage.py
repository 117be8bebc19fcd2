"""What models were asked and what it cost, as rows by day, model and agent."""

from collections.abc import Sequence
from datetime import date

from msgspec import Struct

from weir_shared.db.pool import Connection

COLUMNS = ("model", "day", "agent")


class Spent(Struct, frozen=True, kw_only=True):
    """What one agent has spent on one model; cached tokens are part of the input, reasoning of the output.

    `agent` is empty for what no agent has asked: texts that were embedded for a search or a knowledge base.
    """

    model: str
    agent: str = ""
    requests: int = 1
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class UsageRow(Struct, frozen=True, kw_only=True):
    """The sum of a group."""

    name: str
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int


class Counts(Struct, frozen=True, kw_only=True):
    """How much a tenant has of what is counted."""

    agents: int
    schemas: int
    sessions: int


async def add(connection: Connection, tenant_id: str, spent: Sequence[Spent]) -> None:
    """Adds what was spent outside of a turn's own end."""
    await connection.execute("select add_model_usage($1, $2)", tenant_id, spent)


async def sums(
    connection: Connection, tenant_id: str, column: str, first: date | None, last: date | None
) -> list[UsageRow]:
    """The sums by one of `COLUMNS`, in the order of its values; both days are part of it."""
    rows = await connection.fetch(
        """
        select case $2 when 'model' then model when 'agent' then agent else day::text end as name,
               sum(requests)::bigint as requests,
               sum(input_tokens)::bigint as input_tokens, sum(output_tokens)::bigint as output_tokens,
               sum(cached_tokens)::bigint as cached_tokens, sum(reasoning_tokens)::bigint as reasoning_tokens
        from model_usage
        where tenant_id = $1 and ($3::date is null or day >= $3) and ($4::date is null or day <= $4)
        group by 1
        order by 1
        """,
        tenant_id,
        column,
        first,
        last,
    )
    return [UsageRow(**dict(row)) for row in rows]


async def counts(connection: Connection, tenant_id: str) -> Counts:
    row = await connection.fetchrow(
        """
        select (select count(*) from agents where tenant_id = $1) as agents,
               (select count(*) from schemas where tenant_id = $1) as schemas,
               (select count(*) from sessions where tenant_id = $1) as sessions
        """,
        tenant_id,
    )
    assert row is not None
    return Counts(**dict(row))
