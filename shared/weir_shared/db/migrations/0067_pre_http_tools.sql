-- Tools that a tenant describes as HTTP requests. `config` holds no secret: those are sealed together, by name.

create table http_tools (
    tenant_id uuid not null references tenants on delete cascade,
    id uuid not null,
    name text not null,
    description text not null default '',
    config jsonb not null,
    secret_names text[] not null default '{}',
    secrets_sealed bytea,
    confirmation_required boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    constraint http_tools_name unique (tenant_id, name)
);

alter table http_tools enable row level security;

create policy tenant on http_tools using (tenant_id = current_setting('app.tenant_id')::uuid);

grant select, insert, update, delete on http_tools to weir_app;
