"""What an agent has done in a session, from its turns."""

from msgspec import Struct

from weir.agent_engine.budget import CHARACTERS_A_TOKEN
from weir.agent_engine.tables.confirmations import LOST_AFTER
from weir_shared.db.pool import Connection


class Activity(Struct, frozen=True, kw_only=True):
    completed: int
    running: bool
    failed: bool
    """Whether its last turn did."""
    asks: bool
    """Whether it waits for somebody's word now."""
    waits_for_one_that_asks: bool
    context_tokens: int


async def find(
    connection: Connection, tenant_id: str, session_id: str, agent: str, *, owner: str | None
) -> Activity | None:
    """The agent's doings in a session of the owner (of anybody when None), or None when there are none."""
    row = await connection.fetchrow(
        """
        select count(*) filter (where turns.status = 'completed') as completed,
               coalesce(bool_or(turns.status = 'running'), false) as running,
               count(*) as turns,
               coalesce((array_agg(turns.status order by turns.number desc))[1] = 'failed', false) as failed,
               coalesce(bool_or(turns.status = 'running' and asked.agents @> array[$3]), false) as asks,
               coalesce(
                   bool_or(turns.status = 'running' and sessions.agent = $3 and cardinality(asked.agents) > 0),
                   false
               ) as waits_for_one_that_asks,
               case
                   when bool_or(sessions.agent = $3)
                   then (array_agg(turns.context_tokens order by turns.number desc))[1]
                   -- A sub-agent's context is what it did in the session; nobody counted it by itself.
                   else (
                       select coalesce(sum(length(messages.payload::text)), 0) / $5 from messages
                       where messages.tenant_id = $1 and messages.session_id = $2 and messages.agent = $3
                             and messages.sub_agent_id is not null
                   )
               end::int as context_tokens
        from turns
        join sessions on sessions.tenant_id = turns.tenant_id and sessions.id = turns.session_id
        cross join lateral (
            select array(
                select confirmations.agent from confirmations
                where confirmations.tenant_id = turns.tenant_id and confirmations.turn_id = turns.id
                      and confirmations.status = 'pending' and confirmations.expires_at > now()
                      and confirmations.looked_at > now() - $6::text::interval
            ) as agents
        ) as asked
        where turns.tenant_id = $1 and turns.session_id = $2 and ($4::text is null or sessions.owner = $4)
              and (
                  sessions.agent = $3
                  or asked.agents @> array[$3]
                  or exists (
                      select from messages
                      where messages.tenant_id = turns.tenant_id and messages.turn_id = turns.id
                            and messages.agent = $3
                  )
              )
        """,
        tenant_id,
        session_id,
        agent,
        owner,
        CHARACTERS_A_TOKEN,
        LOST_AFTER,
    )
    if row is None or not row["turns"]:
        return None
    return Activity(**{name: row[name] for name in Activity.__struct_fields__})
