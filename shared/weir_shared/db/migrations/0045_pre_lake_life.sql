-- A runtime's life: who holds the lease on it, and how often it was asked to register everything anew.

-- The owner tells two workers apart of which one was held up longer than its lease.
alter table lake_vms
    add column lease_owner uuid,
    -- Counted like a version: what was asked for while it was being done is still open.
    add column redeploys_asked bigint not null default 0,
    add column redeploys_done bigint not null default 0;

-- False: a running runtime keeps its version until a redeploy or its next start.
alter table lakes add column auto_apply boolean not null default true;
