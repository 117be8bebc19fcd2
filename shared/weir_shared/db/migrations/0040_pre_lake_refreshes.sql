-- What is to be read again, and what came of it: a row for each dataset or view that was ever refreshed.

-- A wish counts up `wish`; whoever serves it notes the count at its start and, once done, that it was served.
-- What was wished for meanwhile is then still open: exactly one further run.
create table lake_refreshes (
    tenant_id uuid not null references tenants on delete cascade,
    name text not null,
    wish bigint not null default 0,
    claimed bigint not null default 0,
    served bigint not null default 0,
    wanted_since timestamptz,
    wanted_at timestamptz,
    trigger text not null default '',
    lease_token uuid,
    lease_until timestamptz,
    started_at timestamptz,
    succeeded_at timestamptz,
    failed_at timestamptz,
    error text,
    failures integer not null default 0,
    next_at timestamptz,
    primary key (tenant_id, name)
);

-- What the sweep reads.
create index lake_refreshes_open on lake_refreshes (wanted_at) where served < wish;
create index lake_refreshes_scheduled on lake_refreshes (next_at) where next_at is not null;

-- The runs, newest first; the sweep keeps the latest of each name.
create table lake_refresh_runs (
    id bigint generated always as identity primary key,
    tenant_id uuid not null references tenants on delete cascade,
    name text not null,
    trigger text not null,
    outcome text not null check (outcome in ('succeeded', 'failed', 'lost')),
    row_count bigint,
    byte_count bigint,
    error text,
    started_at timestamptz not null,
    ended_at timestamptz not null default now()
);

create index lake_refresh_runs_newest on lake_refresh_runs (tenant_id, name, id desc);

alter table lake_refreshes enable row level security;
alter table lake_refresh_runs enable row level security;

create policy tenant on lake_refreshes using (tenant_id = current_setting('app.tenant_id')::uuid);
create policy tenant on lake_refresh_runs using (tenant_id = current_setting('app.tenant_id')::uuid);

grant select, insert, update, delete on lake_refreshes, lake_refresh_runs to weir_app;
