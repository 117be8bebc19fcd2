-- Who changed what, of both APIs. A row is written before the request is handed on, and completed with its outcome.

create table audit_log (
    id bigint generated always as identity primary key,
    tenant_id uuid not null references tenants on delete cascade,
    occurred_at timestamptz not null default now(),
    actor_type text not null check (actor_type in ('admin', 'user', 'api_token', 'system')),
    actor_id text not null,
    action text not null,
    method text not null,
    path text not null,
    request_id text not null,
    status_code integer,
    duration_ms integer
);

create index audit_log_newest on audit_log (tenant_id, id desc);

alter table audit_log enable row level security;
create policy tenant on audit_log using (tenant_id = current_setting('app.tenant_id')::uuid);
-- Nobody changes what was done: a row is added, its outcome is added to it once, and that is all.
grant select, insert on audit_log to weir_app;
grant update (status_code, duration_ms) on audit_log to weir_app;
