-- The last columns that a runtime has told of each dataset, so that views can be checked while it sleeps.

create table lake_schemas (
    tenant_id uuid not null references tenants on delete cascade,
    dataset text not null,
    -- Of the source and the parameters that the columns were read with: another one makes them nobody's.
    fingerprint text not null,
    -- An Arrow schema as an IPC message; only a runtime reads it.
    schema bytea not null,
    noted_at timestamptz not null default now(),
    primary key (tenant_id, dataset)
);

alter table lake_schemas enable row level security;

create policy tenant on lake_schemas using (tenant_id = current_setting('app.tenant_id')::uuid);

grant select, insert, update, delete on lake_schemas to weir_app;
