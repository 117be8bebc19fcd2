-- The calls of tools, kept for oversight beyond the sessions in which they were made.

create table tool_calls (
    id bigint generated always as identity primary key,
    tenant_id uuid not null references tenants on delete cascade,
    session_id uuid,
    turn_id uuid not null,
    call_id text,
    owner text not null,
    agent text not null,
    tool text not null,
    input jsonb not null,
    output text not null default '',
    status text not null default 'running' check (status in ('running', 'completed', 'failed')),
    duration_ms integer,
    created_at timestamptz not null default now(),
    foreign key (tenant_id, session_id) references sessions (tenant_id, id) on delete set null (session_id)
);

create index tool_calls_newest on tool_calls (tenant_id, id desc);
create index tool_calls_of_agent on tool_calls (tenant_id, agent, id desc);
create index tool_calls_of_session on tool_calls (tenant_id, session_id);
create index tool_calls_unanswered on tool_calls (turn_id, call_id) where status = 'running';

alter table tool_calls enable row level security;
create policy tenant on tool_calls using (tenant_id = current_setting('app.tenant_id')::uuid);
grant select, insert, update, delete on tool_calls to weir_app;

-- Whatever writes a call or its result down writes it here too, within the same transaction: no writer can forget it.
create function note_tool_call() returns trigger language plpgsql as $$
begin
    if new.event_type = 'tool_call' then
        insert into tool_calls (tenant_id, session_id, turn_id, call_id, owner, agent, tool, input, created_at)
        select new.tenant_id, new.session_id, new.turn_id, new.call_id, sessions.owner, new.agent,
               coalesce(new.payload ->> 'tool', ''), coalesce(new.payload -> 'arguments', '{}'), new.created_at
        from sessions
        where sessions.tenant_id = new.tenant_id and sessions.id = new.session_id;
    else
        update tool_calls
        set status = case when (new.payload ->> 'is_error')::boolean then 'failed' else 'completed' end,
            output = left(coalesce(new.payload ->> 'content', ''), 10000),
            duration_ms = (new.payload ->> 'duration_ms')::integer
        where tool_calls.turn_id = new.turn_id and tool_calls.tenant_id = new.tenant_id
              and tool_calls.call_id = new.call_id and tool_calls.status = 'running';
    end if;
    return null;
end
$$;

create trigger tool_calls_noted
after insert on messages
for each row
when (new.event_type in ('tool_call', 'tool_result'))
execute function note_tool_call();

-- A turn that ends answers what it left open.
create function fail_open_tool_calls() returns trigger language plpgsql as $$
begin
    update tool_calls set status = 'failed', output = 'The turn ended before the tool had answered'
    where tool_calls.turn_id = new.id and tool_calls.tenant_id = new.tenant_id and tool_calls.status = 'running';
    return null;
end
$$;

create trigger tool_calls_ended
after update of status on turns
for each row
when (old.status = 'running' and new.status <> 'running')
execute function fail_open_tool_calls();

insert into tool_calls (
    tenant_id, session_id, turn_id, call_id, owner, agent, tool, input, output, status, duration_ms, created_at
)
select calls.tenant_id, calls.session_id, calls.turn_id, calls.call_id, sessions.owner, calls.agent,
       coalesce(calls.payload ->> 'tool', ''), coalesce(calls.payload -> 'arguments', '{}'),
       left(coalesce(results.payload ->> 'content', ''), 10000),
       case when results.id is null or (results.payload ->> 'is_error')::boolean then 'failed' else 'completed' end,
       (results.payload ->> 'duration_ms')::integer, calls.created_at
from messages as calls
join sessions on sessions.tenant_id = calls.tenant_id and sessions.id = calls.session_id
left join messages as results
    on results.tenant_id = calls.tenant_id and results.turn_id = calls.turn_id
       and results.call_id = calls.call_id and results.event_type = 'tool_result'
where calls.event_type = 'tool_call'
order by calls.id;
