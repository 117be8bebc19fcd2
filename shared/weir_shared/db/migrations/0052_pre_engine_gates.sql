-- A gate that waits for somebody's word. It belongs to one call of one turn and goes with it; an id is never used
-- twice. `looked_at` is when the process that waits looked last: an answer that nobody would act on is not taken.
-- Who may answer is the owner of the session or an administrator of the tenant.
create table confirmations (
    tenant_id uuid not null,
    call_id text not null,
    session_id uuid not null,
    turn_id uuid not null,
    agent text not null,
    tool text not null,
    status text not null default 'pending' check (status in ('pending', 'approved', 'denied', 'expired')),
    asked_at timestamptz not null default now(),
    expires_at timestamptz not null,
    looked_at timestamptz not null default now(),
    answered_at timestamptz,
    answered_by text,
    primary key (tenant_id, call_id),
    foreign key (tenant_id, turn_id) references turns (tenant_id, id) on delete cascade
);

create index confirmations_of_turn on confirmations (tenant_id, turn_id);

alter table confirmations enable row level security;
create policy tenant on confirmations using (tenant_id = current_setting('app.tenant_id')::uuid);
grant select, insert, update, delete on confirmations to weir_app;

-- What a sub-agent said and did stands in the turn of the agent that called it: under which call, and whose it is
-- even when the agent is renamed or replaced by another of its name. Null: the session's own conversation.
alter table messages add column sub_agent_id uuid;
alter table messages add column parent_call_id text;
create index messages_of_sub_agent on messages (tenant_id, session_id, sub_agent_id, id)
    where sub_agent_id is not null;
