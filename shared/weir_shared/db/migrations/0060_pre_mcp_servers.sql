-- Servers of the Model Context Protocol that a tenant's agents may use. The values of their environment are one secret.

create table mcp_servers (
    tenant_id uuid not null references tenants on delete cascade,
    id uuid not null,
    name text not null,
    type text not null check (type in ('stdio', 'http', 'sse', 'streamable-http')),
    command text,
    args text[] not null default '{}',
    url text,
    env_names text[] not null default '{}',
    env_sealed bytea,
    forward_headers text[] not null default '{}',
    auth_type text not null default 'none'
        check (auth_type in ('none', 'api_key', 'forward_headers', 'oauth2', 'service_account')),
    auth_key_env text,
    auth_token_env text,
    auth_client_id text,
    enabled boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    constraint mcp_servers_name unique (tenant_id, name),
    constraint mcp_servers_place check (case type when 'stdio' then command is not null else url is not null end)
);

alter table mcp_servers enable row level security;

create policy tenant on mcp_servers using (tenant_id = current_setting('app.tenant_id')::uuid);

grant select, insert, update, delete on mcp_servers to weir_app;
