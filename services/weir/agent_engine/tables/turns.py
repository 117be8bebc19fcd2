"""Turns as rows: opened with the user's message, ended with the last words of the answer."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from weir.agent_engine.tables.messages import Entry, columns
from weir.agent_engine.tables.usage import Spent
from weir_shared.db.pool import Connection, Database

# How long after its deadline a turn that nobody ended counts as lost with its process.
GRACE = "30 seconds"


class NewTurn(Struct, frozen=True, kw_only=True):
    """A turn to open, with the session to open or to go on with."""

    id: str
    session_id: str
    owner: str
    schema_id: str | None
    schema_name: str
    agent: str
    title: str
    message: str
    seconds: int
    replica: str | None = None


class TurnRow(Struct, frozen=True, kw_only=True):
    id: str
    number: int
    status: str
    error_code: str | None
    error: str | None
    input_tokens: int
    output_tokens: int
    context_tokens: int
    started_at: datetime
    replica: str | None = None
    events: int | None = None
    is_lost: bool = False


class Holder(Struct, frozen=True, kw_only=True):
    """What keeps a session busy: how long its replica's lease still holds, and whether a person is asked."""

    lease_left: float | None = None
    asks: bool = False


class Ending(Struct, frozen=True, kw_only=True):
    """How a turn ended."""

    status: str
    steps: int
    input_tokens: int
    output_tokens: int
    context_tokens: int
    token_scale: float
    events: int
    spent: list[Spent]
    error_code: str | None = None
    error: str | None = None


async def open_turn(connection: Connection, tenant_id: str, turn: NewTurn) -> int:
    """The session, the turn and the user's message in one statement; the number of the turn in its session.

    Raises UniqueViolation while another turn of the session runs.
    """
    number = await connection.fetchval(
        """
        with session as (
            insert into sessions (tenant_id, id, owner, schema_id, schema_name, agent, title)
            values ($1, $2, $3, $4, $5, $6, $7)
            on conflict (tenant_id, id) do update
            set status = 'active', schema_id = $4, schema_name = $5, agent = $6, updated_at = now(),
                title = coalesce(nullif(sessions.title, ''), $7)
        ),
        turn as (
            insert into turns (tenant_id, id, session_id, number, deadline_at, replica)
            select $1, $8, $2, coalesce(max(number), 0) + 1, now() + make_interval(secs => $10), $11
            from turns
            where tenant_id = $1 and session_id = $2
            returning number
        ),
        message as (
            insert into messages (tenant_id, session_id, turn_id, sequence, event_type, agent, payload)
            values ($1, $2, $8, 0, 'user_message', $6, jsonb_build_object('content', $9::text))
        )
        select number from turn
        """,
        tenant_id,
        turn.session_id,
        turn.owner,
        turn.schema_id,
        turn.schema_name,
        turn.agent,
        turn.title,
        turn.id,
        turn.message,
        turn.seconds,
        turn.replica,
    )
    assert number is not None
    return number


async def fail_lost(connection: Connection, tenant_id: str, session_id: str) -> None:
    """Ends the session's turn whose process is gone, so that it does not lock the session.

    It is gone when the turn is long past its deadline, or when the lease of its replica has run out.
    """
    await connection.execute(
        """
        update turns
        set status = 'failed', ended_at = now(), error_code = 'interrupted',
            error = 'The turn was interrupted: the process that ran it is gone'
        where tenant_id = $1 and session_id = $2 and status = 'running'
              and (
                  deadline_at < now() - $3::text::interval
                  or replica is not null and not exists (
                      select from engine_replicas where id = turns.replica and lease_until > now()
                  )
              )
        """,
        tenant_id,
        session_id,
        GRACE,
    )


async def holder(connection: Connection, tenant_id: str, session_id: str) -> Holder:
    """What holds the session now; nothing known when its turn has just ended."""
    row = await connection.fetchrow(
        """
        select extract(epoch from engine_replicas.lease_until - now())::float8 as lease_left,
               exists (
                   select from confirmations
                   where confirmations.tenant_id = turns.tenant_id and confirmations.turn_id = turns.id
                         and confirmations.status = 'pending'
               ) as asks
        from turns
        left join engine_replicas on engine_replicas.id = turns.replica
        where turns.tenant_id = $1 and turns.session_id = $2 and turns.status = 'running'
        """,
        tenant_id,
        session_id,
    )
    return Holder(**dict(row)) if row else Holder()


async def end_turn(
    connection: Connection, tenant_id: str, turn_id: str, ending: Ending, entries: Sequence[Entry]
) -> bool:
    """The last entries, the turn, its session and what it has spent in one statement.

    Only what was spent, and False, when the turn was deleted or given up meanwhile.
    """
    written = await connection.fetchval(
        """
        with ended as (
            update turns
            set status = $3, steps = $4, input_tokens = $5, output_tokens = $6, error_code = $7, error = $8,
                ended_at = now(), events = $17, context_tokens = $18, token_scale = $19
            where tenant_id = $1 and id = $2 and status = 'running'
            returning session_id
        ),
        entries as (
            insert into messages (
                tenant_id, session_id, turn_id, sequence, event_type, agent, call_id, payload, sub_agent_id,
                parent_call_id, event
            )
            select $1, ended.session_id, $2, entry.*
            from ended, unnest(
                $9::int[], $10::text[], $11::text[], $12::text[], $13::jsonb[], $14::uuid[], $15::text[],
                $16::int[]
            ) as entry
        ),
        session as (
            update sessions
            set status = $3, updated_at = now()
            from ended
            where sessions.tenant_id = $1 and sessions.id = ended.session_id
            returning true
        ),
        usage as (
            select add_model_usage($1, $20)
        )
        select exists (select from session) from usage
        """,
        tenant_id,
        turn_id,
        ending.status,
        ending.steps,
        ending.input_tokens,
        ending.output_tokens,
        ending.error_code,
        ending.error,
        *columns(entries),
        ending.events,
        ending.context_tokens,
        ending.token_scale,
        ending.spent,
    )
    return bool(written)


async def latest(connection: Connection, tenant_id: str, session_id: str) -> TurnRow | None:
    row = await connection.fetchrow(
        """
        select id, number, status, error_code, error, input_tokens, output_tokens, context_tokens, started_at,
               replica, events,
               status = 'running' and replica is not null and not exists (
                   select from engine_replicas where id = turns.replica and lease_until > now()
               ) as is_lost
        from turns
        where tenant_id = $1 and session_id = $2
        order by number desc
        limit 1
        """,
        tenant_id,
        session_id,
    )
    return TurnRow(**dict(row)) if row else None


async def is_running(connection: Connection, tenant_id: str, session_id: str, number: int) -> bool:
    """Whether the turn of this number still runs; False too when it was deleted."""
    return bool(
        await connection.fetchval(
            """
            select status = 'running' from turns
            where tenant_id = $1 and session_id = $2 and number = $3
            """,
            tenant_id,
            session_id,
            number,
        )
    )


async def fail_any_lost(database: Database) -> int:
    """Ends the turns of every tenant whose process is gone; how many there were."""
    async with database.any_tenant() as connection:
        rows = await connection.fetch(
            """
            with lost as (
                update turns
                set status = 'failed', ended_at = now(), error_code = 'interrupted',
                    error = 'The turn was interrupted: the process that ran it is gone'
                where status = 'running'
                      and (
                          deadline_at < now() - $1::text::interval
                          or replica is not null and not exists (
                              select from engine_replicas where id = turns.replica and lease_until > now()
                          )
                      )
                returning tenant_id, session_id
            )
            update sessions
            set status = 'failed'
            from lost
            where sessions.tenant_id = lost.tenant_id and sessions.id = lost.session_id
            returning sessions.id
            """,
            GRACE,
        )
    return len(rows)
