-- What agents remember of a user within a schema, for all agents of that schema.

create table memories (
    tenant_id uuid not null references tenants on delete cascade,
    id uuid not null,
    schema_id uuid not null,
    owner text not null,
    content text not null,
    metadata jsonb not null default '{}',
    -- Tells apart what was stored at one moment.
    number bigint generated always as identity,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, schema_id) references schemas (tenant_id, id) on delete cascade
);

create index memories_of_user on memories (tenant_id, schema_id, owner, number desc);

alter table memories enable row level security;
create policy tenant on memories using (tenant_id = current_setting('app.tenant_id')::uuid);
grant select, insert, update, delete on memories to weir_app;
