-- Tasks: work that agents do while nobody waits for it, on whichever worker has claimed it.

create table tasks (
    tenant_id uuid not null references tenants on delete cascade,
    id text not null,
    -- Tells apart what was created at one moment, and says who comes first.
    number bigint generated always as identity,
    -- On whose authority the agent works: the caller who created the task, with the scopes of that moment.
    owner text not null,
    scopes text[] not null,
    agent_id uuid,
    agent text not null,
    title text not null,
    description text not null default '',
    acceptance_criteria text[] not null default '{}',
    mode text not null default 'background' check (mode in ('interactive', 'background')),
    priority smallint not null default 0 check (priority between 0 and 2),
    source text not null check (source in ('api', 'agent', 'dashboard', 'cron', 'webhook', 'dataset')),
    status text not null check (
        status in (
            'draft', 'approved', 'pending', 'in_progress', 'needs_input', 'completed', 'failed', 'cancelled'
        )
    ),
    parent_id text,
    depth smallint not null default 1 check (depth between 1 and 10),
    blocked_by text[] not null default '{}',
    -- False: a note that its creator works off by hand; no worker takes it.
    is_automatic boolean not null default true,
    -- The session in which an agent created it, and the one in which it is worked on.
    origin_session_id uuid,
    session_id uuid,
    turn_id uuid,
    -- What its agent is told next; null: the task itself.
    message text,
    question text,
    result text,
    error text,
    -- Who works on it now, and until when that holds; null while nobody does.
    claim uuid,
    claimed_until timestamptz,
    attempts integer not null default 0,
    seconds_left real not null,
    idempotency_key text,
    request_hash bytea,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    approved_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    primary key (tenant_id, id),
    constraint tasks_parent foreign key (tenant_id, parent_id)
        references tasks (tenant_id, id) on delete set null (parent_id),
    -- A session goes with the tasks that were worked on in it.
    constraint tasks_session foreign key (tenant_id, session_id)
        references sessions (tenant_id, id) on delete cascade,
    constraint tasks_asked_once unique (tenant_id, owner, idempotency_key)
);

create index tasks_newest on tasks (tenant_id, number desc);
create index tasks_of_parent on tasks (tenant_id, parent_id) where parent_id is not null;
create index tasks_of_session on tasks (tenant_id, session_id) where session_id is not null;
create index tasks_of_origin on tasks (tenant_id, origin_session_id) where origin_session_id is not null;
create index tasks_of_turn on tasks (tenant_id, turn_id) where status in ('in_progress', 'needs_input');
create index tasks_open on tasks (tenant_id) where status not in ('completed', 'failed', 'cancelled');
create index tasks_blocked on tasks using gin (blocked_by) where status not in ('completed', 'failed', 'cancelled');
create index tasks_waiting on tasks (tenant_id, priority desc, number)
    where status in ('pending', 'approved') and is_automatic;
create index tasks_claimed on tasks (claimed_until) where claimed_until is not null;

alter table tasks enable row level security;
create policy tenant on tasks using (tenant_id = current_setting('app.tenant_id')::uuid);
grant select, insert, update, delete on tasks to weir_app;
