-- The context lake: what each tenant's lake holds, version by version, its sealed credentials, its runtime.

-- The row that a change of a lake moves, and the pointer to its newest version.
create table lakes (
    tenant_id uuid primary key references tenants on delete cascade,
    version integer not null default 0,
    updated_at timestamptz not null default now()
);

-- Append-only: what a lake was at each of its versions.
create table lake_configs (
    tenant_id uuid not null references lakes on delete cascade,
    version integer not null,
    document jsonb not null,
    author text not null,
    reason text not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, version)
);

create table lake_secrets (
    tenant_id uuid not null references lakes on delete cascade,
    reference text not null,
    sealed bytea not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, reference)
);

-- One runtime a tenant; every transition is a compare-and-set on (state, epoch).
create table lake_vms (
    tenant_id uuid primary key references tenants on delete cascade,
    state text not null default 'not_provisioned'
        check (state in ('not_provisioned', 'provisioning', 'running', 'hibernating', 'paused', 'error')),
    epoch bigint not null default 0,
    endpoint text,
    secret bytea,
    applied_version integer,
    last_error text,
    lease_until timestamptz,
    last_activity_at timestamptz not null default now(),
    cause text not null default '',
    updated_at timestamptz not null default now()
);

-- What the sweeps read.
create index lake_vms_awake on lake_vms (state, updated_at)
    where state in ('provisioning', 'running', 'hibernating');

alter table lakes enable row level security;
alter table lake_configs enable row level security;
alter table lake_secrets enable row level security;
alter table lake_vms enable row level security;

create policy tenant on lakes using (tenant_id = current_setting('app.tenant_id')::uuid);
create policy tenant on lake_configs using (tenant_id = current_setting('app.tenant_id')::uuid);
create policy tenant on lake_secrets using (tenant_id = current_setting('app.tenant_id')::uuid);
create policy tenant on lake_vms using (tenant_id = current_setting('app.tenant_id')::uuid);

grant select, insert, update, delete on lakes, lake_configs, lake_secrets, lake_vms to weir_app;
