-- The answers to changes of a lake that were asked for under an Idempotency-Key, kept for a day.

create table lake_answers (
    tenant_id uuid not null references tenants on delete cascade,
    author text not null,
    key text not null,
    request_hash bytea not null,
    status integer not null,
    headers jsonb not null,
    body bytea not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, author, key)
);

-- What the sweep reads.
create index lake_answers_oldest on lake_answers (created_at);

alter table lake_answers enable row level security;

create policy tenant on lake_answers using (tenant_id = current_setting('app.tenant_id')::uuid);

grant select, insert, update, delete on lake_answers to weir_app;
