-- Tenants, their data keys and their API tokens; the role under which tenants' work runs.

do $$
begin
    create role weir_app nologin noinherit;
exception
    -- Roles belong to the server, not to one database: another Weir may have made it.
    when duplicate_object or unique_violation then null;
end $$;

do $$
begin
    -- A superuser is no member of the role and need not be one; anybody else has to be let in.
    if not pg_has_role(current_user, 'weir_app', 'member') then
        execute format('grant weir_app to %I', current_user);
    end if;
exception
    when unique_violation then null;
end $$;

create table tenants (
    id uuid primary key,
    created_at timestamptz not null default now()
);

insert into tenants (id) values ('00000000-0000-0000-0000-000000000001');

create table tenant_keys (
    tenant_id uuid primary key references tenants on delete cascade,
    kek_id text not null,
    wrapped bytea not null,
    created_at timestamptz not null default now()
);

create table api_tokens (
    id uuid primary key,
    tenant_id uuid not null references tenants on delete cascade,
    name text not null,
    token_hash bytea not null unique,
    prefix text not null,
    scopes text[] not null,
    created_by text not null,
    created_at timestamptz not null default now(),
    last_used_at timestamptz,
    revoked_at timestamptz
);

create unique index api_tokens_name on api_tokens (tenant_id, name) where revoked_at is null;

alter table tenants enable row level security;
alter table tenant_keys enable row level security;
alter table api_tokens enable row level security;

create policy tenant on tenants using (id = current_setting('app.tenant_id')::uuid);
create policy tenant on tenant_keys using (tenant_id = current_setting('app.tenant_id')::uuid);
create policy tenant on api_tokens using (tenant_id = current_setting('app.tenant_id')::uuid);

grant usage on schema public to weir_app;
grant select on tenants to weir_app;
grant select, insert, update, delete on tenant_keys, api_tokens to weir_app;
