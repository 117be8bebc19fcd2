"""Turns as rows: opened with the user's message, ended with the last words of the answer."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from weir.agent_engine.tables.messages import Entry, columns
from weir_shared.db.pool import Connection, Database

# How long after its deadline a turn that nobody ended counts as lost with its process.
GRACE = "30 seconds"


class NewTurn(Struct, frozen=True, kw_only=True):
    """A turn to open, with the session to open or to go on with."""

    id: str
    session_id: str
    owner: str
    schema_id: str
    schema_name: str
    agent: str
    title: str
    message: str
    seconds: int


class TurnRow(Struct, frozen=True, kw_only=True):
    id: str
    number: int
    status: str
    error_code: str | None
    error: str | None
    input_tokens: int
    output_tokens: int
    started_at: datetime


class Ending(Struct, frozen=True, kw_only=True):
    """How a turn ended."""

    status: str
    steps: int
    input_tokens: int
    output_tokens: int
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
            on conflict (tenant_id, id) do update set status = 'active', agent = $6, updated_at = now()
        ),
        turn as (
            insert into turns (tenant_id, id, session_id, number, deadline_at)
            select $1, $8, $2, coalesce(max(number), 0) + 1, now() + make_interval(secs => $10)
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
    )
    assert number is not None
    return number


async def fail_overdue(connection: Connection, tenant_id: str, session_id: str) -> None:
    """Ends the session's turn that outlived its deadline, so that a lost process does not lock the session."""
    await connection.execute(
        """
        update turns
        set status = 'failed', ended_at = now(), error_code = 'lost', error = 'The turn was interrupted'
        where tenant_id = $1 and session_id = $2 and status = 'running'
              and deadline_at < now() - $3::text::interval
        """,
        tenant_id,
        session_id,
        GRACE,
    )


async def end_turn(
    connection: Connection, tenant_id: str, turn_id: str, ending: Ending, entries: Sequence[Entry]
) -> None:
    """The last entries, the turn and its session in one statement; nothing when the turn is no longer there."""
    await connection.execute(
        """
        with ended as (
            update turns
            set status = $3, steps = $4, input_tokens = $5, output_tokens = $6, error_code = $7, error = $8,
                ended_at = now()
            where tenant_id = $1 and id = $2 and status = 'running'
            returning session_id
        ),
        entries as (
            insert into messages (tenant_id, session_id, turn_id, sequence, event_type, agent, call_id, payload)
            select $1, ended.session_id, $2, entry.*
            from ended, unnest($9::int[], $10::text[], $11::text[], $12::text[], $13::jsonb[]) as entry
        )
        update sessions
        set status = $3, updated_at = now()
        from ended
        where sessions.tenant_id = $1 and sessions.id = ended.session_id
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
    )


async def latest(connection: Connection, tenant_id: str, session_id: str) -> TurnRow | None:
    row = await connection.fetchrow(
        """
        select id, number, status, error_code, error, input_tokens, output_tokens, started_at
        from turns
        where tenant_id = $1 and session_id = $2
        order by number desc
        limit 1
        """,
        tenant_id,
        session_id,
    )
    return TurnRow(**dict(row)) if row else None


async def fail_any_overdue(database: Database) -> int:
    """Ends the turns of every tenant that outlived their deadline; how many there were."""
    async with database.any_tenant() as connection:
        rows = await connection.fetch(
            """
            with lost as (
                update turns
                set status = 'failed', ended_at = now(), error_code = 'lost', error = 'The turn was interrupted'
                where status = 'running' and deadline_at < now() - $1::text::interval
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
