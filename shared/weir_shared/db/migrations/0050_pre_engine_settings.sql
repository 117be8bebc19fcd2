-- What a tenant's administrators decide about the engine while it runs: a key and any JSON.

create table engine_settings (
    tenant_id uuid not null references tenants on delete cascade,
    key text not null,
    value jsonb not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, key)
);

alter table engine_settings enable row level security;

create policy tenant on engine_settings using (tenant_id = current_setting('app.tenant_id')::uuid);

grant select, insert, update, delete on engine_settings to weir_app;
