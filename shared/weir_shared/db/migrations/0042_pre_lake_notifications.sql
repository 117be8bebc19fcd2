-- Queues that tell of changes in S3, what has arrived through them, and the webhook that tells of them otherwise.

-- A row for each dataset that has, or had, notifications; it goes with the dataset.
create table lake_notifications (
    tenant_id uuid not null references tenants on delete cascade,
    name text not null,
    id uuid not null unique,
    is_on boolean not null,
    bucket text not null,
    path text not null,
    format text not null,
    ending text not null default '',
    account text not null default '',
    region text not null,
    queue_arn text not null,
    queue_url text not null,
    dead_url text not null,
    -- Set while the queue also takes events of the bucket that the dataset had before.
    is_policy_wide boolean not null default false,
    is_connected boolean not null default false,
    is_receiving boolean not null default false,
    event_count bigint not null default 0,
    last_event_at timestamptz,
    last_refresh_at timestamptz,
    waiting_since timestamptz,
    dead_count bigint not null default 0,
    listing text,
    listed_at timestamptz,
    primary key (tenant_id, name)
);

-- What has been counted, so that it is counted once; kept for a day.
create table lake_event_ledger (
    tenant_id uuid not null references tenants on delete cascade,
    notification_id uuid not null,
    event bytea not null,
    seen_at timestamptz not null default now(),
    primary key (tenant_id, notification_id, event)
);

create index lake_event_ledger_age on lake_event_ledger (seen_at);

-- How far each object is known: S3's own order of the events of one key.
create table lake_event_order (
    tenant_id uuid not null references tenants on delete cascade,
    notification_id uuid not null,
    object bytea not null,
    sequencer text collate "C" not null,
    seen_at timestamptz not null default now(),
    primary key (tenant_id, notification_id, object)
);

create index lake_event_order_age on lake_event_order (seen_at);

-- Queues that are to go: written before a queue is made, taken back by the change that uses it. No reference to
-- the tenant: a queue outlives the rows of whoever had it.
create table lake_queue_removals (
    tenant_id uuid not null,
    queue_name text not null,
    region text not null,
    due_at timestamptz not null,
    attempts integer not null default 0,
    primary key (tenant_id, queue_name, region)
);

create index lake_queue_removals_due on lake_queue_removals (due_at);

-- The workers that poll queues, so that they share them out.
create table lake_pollers (
    id uuid primary key,
    seen_at timestamptz not null default now()
);

create table lake_webhooks (
    tenant_id uuid primary key references tenants on delete cascade,
    token_hash bytea not null unique,
    hint text not null,
    created_at timestamptz not null default now(),
    last_called_at timestamptz
);

-- When each dataset was last asked for by webhook; '' is all of them.
create table lake_webhook_triggers (
    tenant_id uuid not null references tenants on delete cascade,
    name text not null,
    triggered_at timestamptz not null default now(),
    primary key (tenant_id, name)
);

alter table lake_notifications enable row level security;
alter table lake_event_ledger enable row level security;
alter table lake_event_order enable row level security;
alter table lake_queue_removals enable row level security;
alter table lake_webhooks enable row level security;
alter table lake_webhook_triggers enable row level security;

create policy tenant on lake_notifications using (tenant_id = current_setting('app.tenant_id')::uuid);
create policy tenant on lake_event_ledger using (tenant_id = current_setting('app.tenant_id')::uuid);
create policy tenant on lake_event_order using (tenant_id = current_setting('app.tenant_id')::uuid);
create policy tenant on lake_queue_removals using (tenant_id = current_setting('app.tenant_id')::uuid);
create policy tenant on lake_webhooks using (tenant_id = current_setting('app.tenant_id')::uuid);
create policy tenant on lake_webhook_triggers using (tenant_id = current_setting('app.tenant_id')::uuid);

grant select, insert, update, delete
    on lake_notifications, lake_event_ledger, lake_event_order, lake_queue_removals, lake_webhooks,
        lake_webhook_triggers
    to weir_app;
