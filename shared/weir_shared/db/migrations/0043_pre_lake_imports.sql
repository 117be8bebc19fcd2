-- The files that tenants have uploaded. A row is there from the moment on which a dataset reads the file; a file
-- without a row is nobody's, and is removed.

create table lake_imports (
    tenant_id uuid not null references tenants on delete cascade,
    -- The file's name in the tenant's directory, never the one it was sent under.
    file text not null,
    bytes bigint not null,
    created_by text not null,
    created_at timestamptz not null default now(),
    -- Set with the change that left no dataset of the lake which reads it; the file goes soon after.
    dropped_at timestamptz,
    primary key (tenant_id, file)
);

-- What the sweep reads.
create index lake_imports_dropped on lake_imports (dropped_at) where dropped_at is not null;

alter table lake_imports enable row level security;

create policy tenant on lake_imports using (tenant_id = current_setting('app.tenant_id')::uuid);

grant select, insert, update, delete on lake_imports to weir_app;
