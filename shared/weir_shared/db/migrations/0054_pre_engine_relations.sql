-- Who hands work to whom within a schema, and what an agent can do besides its tools.

create table agent_relations (
    tenant_id uuid not null references tenants on delete cascade,
    id uuid not null,
    schema_id uuid not null,
    source_id uuid not null,
    target_id uuid not null,
    config jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    constraint agent_relations_pair unique (tenant_id, schema_id, source_id, target_id),
    constraint agent_relations_ends check (source_id <> target_id),
    constraint agent_relations_schema foreign key (tenant_id, schema_id)
        references schemas (tenant_id, id) on delete cascade,
    constraint agent_relations_source foreign key (tenant_id, source_id)
        references agents (tenant_id, id) on delete cascade,
    constraint agent_relations_target foreign key (tenant_id, target_id)
        references agents (tenant_id, id) on delete cascade
);

create index agent_relations_from on agent_relations (tenant_id, source_id);
create index agent_relations_to on agent_relations (tenant_id, target_id);

create table agent_capabilities (
    tenant_id uuid not null references tenants on delete cascade,
    id uuid not null,
    agent_id uuid not null,
    type text not null check (type in ('memory', 'knowledge')),
    config jsonb not null default '{}',
    enabled boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    constraint agent_capabilities_type unique (tenant_id, agent_id, type),
    constraint agent_capabilities_agent foreign key (tenant_id, agent_id)
        references agents (tenant_id, id) on delete cascade
);

alter table agent_relations enable row level security;
alter table agent_capabilities enable row level security;

create policy tenant on agent_relations using (tenant_id = current_setting('app.tenant_id')::uuid);
create policy tenant on agent_capabilities using (tenant_id = current_setting('app.tenant_id')::uuid);

grant select, insert, update, delete on agent_relations, agent_capabilities to weir_app;
