-- Triggers: what happens by itself and becomes a task. A firing is an event of one, kept so that none counts twice.

create table triggers (
    tenant_id uuid not null references tenants on delete cascade,
    id uuid not null,
    type text not null check (type in ('cron', 'webhook', 'dataset_refreshed')),
    title text not null,
    description text not null default '',
    -- On whose authority its tasks are done: of whoever created it.
    owner text not null,
    scopes text[] not null,
    agent_id uuid not null,
    agent text not null,
    priority smallint not null default 0 check (priority between 0 and 2),
    enabled boolean not null default true,
    schedule text,
    timezone text not null default 'UTC',
    -- The same for nobody else, since no credential says whose it is.
    webhook_path text unique,
    secret_sealed bytea,
    datasets text[] not null default '{}',
    -- Events from then on count; runs up to the cursor have been looked at.
    armed_at timestamptz not null default now(),
    run_cursor bigint not null default 0,
    next_fire_at timestamptz,
    last_fired_at timestamptz,
    last_task_id text,
    failures integer not null default 0,
    last_error text,
    last_error_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    constraint triggers_kind check (
        case type
            when 'cron' then schedule is not null
            when 'webhook' then webhook_path is not null and secret_sealed is not null
            else true
        end
    )
);

create index triggers_due on triggers (next_fire_at) where next_fire_at is not null;
create index triggers_of_datasets on triggers (tenant_id) where type = 'dataset_refreshed' and enabled;

create table trigger_firings (
    tenant_id uuid not null,
    trigger_id uuid not null,
    event text not null,
    task_id text,
    error text,
    fired_at timestamptz not null default now(),
    primary key (tenant_id, trigger_id, event),
    foreign key (tenant_id, trigger_id) references triggers (tenant_id, id) on delete cascade
);

create index trigger_firings_newest on trigger_firings (tenant_id, trigger_id, fired_at desc);
create index trigger_firings_oldest on trigger_firings (fired_at);

alter table triggers enable row level security;
alter table trigger_firings enable row level security;
create policy tenant on triggers using (tenant_id = current_setting('app.tenant_id')::uuid);
create policy tenant on trigger_firings using (tenant_id = current_setting('app.tenant_id')::uuid);
grant select, insert, update, delete on triggers, trigger_firings to weir_app;

-- Which trigger created a task; it stays when the trigger goes.
alter table tasks add column trigger_id uuid;
