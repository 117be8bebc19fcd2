"""Gates that wait for an answer, as rows: whichever replica waits, any may answer, once and in time."""

from msgspec import Struct

from weir_shared.db.pool import Connection

# Whoever waits looks every other second; after so long it is taken for a process that is gone.
LOST_AFTER = "20 seconds"


class NewConfirmation(Struct, frozen=True, kw_only=True):
    call_id: str
    session_id: str
    turn_id: str
    agent: str
    tool: str
    seconds: float


class Waiting(Struct, frozen=True, kw_only=True):
    """How a gate stands; `seconds_left` is 0 or less when its time is up, by the clock of the database."""

    status: str
    seconds_left: float


async def add(connection: Connection, tenant_id: str, new: NewConfirmation) -> bool:
    """Opens the gate; False when its turn no longer runs."""
    added = await connection.fetchval(
        """
        insert into confirmations (tenant_id, call_id, session_id, turn_id, agent, tool, expires_at)
        select $1, $2, turns.session_id, turns.id, $5, $6, now() + make_interval(secs => $7)
        from turns
        where turns.tenant_id = $1 and turns.session_id = $3 and turns.id = $4 and turns.status = 'running'
        returning call_id
        """,
        tenant_id,
        new.call_id,
        new.session_id,
        new.turn_id,
        new.agent,
        new.tool,
        new.seconds,
    )
    return added is not None


async def look(
    connection: Connection, tenant_id: str, call_id: str, *, turn_seconds_left: float
) -> Waiting | None:
    """How the gate stands; None when its turn is over or gone.

    A gate whose time is up closes here. The turn's deadline moves on while it waits, so that waiting is not taken
    for a lost process, and a lost process still for one.
    """
    row = await connection.fetchrow(
        """
        with turn as (
            update turns
            set deadline_at = greatest(deadline_at, now() + make_interval(secs => $3))
            from confirmations
            where confirmations.tenant_id = $1 and confirmations.call_id = $2
                  and turns.tenant_id = $1 and turns.id = confirmations.turn_id and turns.status = 'running'
            returning turns.id
        )
        update confirmations
        set looked_at = now(),
            status = case when status = 'pending' and expires_at <= now() then 'expired' else status end
        from turn
        where confirmations.tenant_id = $1 and confirmations.call_id = $2 and confirmations.turn_id = turn.id
        returning confirmations.status,
                  extract(epoch from confirmations.expires_at - now())::float8 as seconds_left
        """,
        tenant_id,
        call_id,
        turn_seconds_left,
    )
    return Waiting(**dict(row)) if row else None


async def answer(
    connection: Connection, tenant_id: str, session_id: str, call_id: str, *, status: str, answered_by: str
) -> bool:
    """Takes the answer; False when the gate is not there, has been answered, or nobody waits at it any more."""
    taken = await connection.fetchval(
        """
        update confirmations
        set status = $4, answered_at = now(), answered_by = $5
        from turns
        where confirmations.tenant_id = $1 and confirmations.session_id = $2 and confirmations.call_id = $3
              and confirmations.status = 'pending' and confirmations.expires_at > now()
              and confirmations.looked_at > now() - $6::text::interval
              and turns.tenant_id = $1 and turns.id = confirmations.turn_id and turns.status = 'running'
        returning confirmations.call_id
        """,
        tenant_id,
        session_id,
        call_id,
        status,
        answered_by,
        LOST_AFTER,
    )
    return taken is not None


async def status_of(connection: Connection, tenant_id: str, session_id: str, call_id: str) -> str | None:
    return await connection.fetchval(
        """
        select status from confirmations
        where tenant_id = $1 and session_id = $2 and call_id = $3
        """,
        tenant_id,
        session_id,
        call_id,
    )
