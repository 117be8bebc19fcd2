-- Who runs a turn, so that its readers elsewhere find it and a lost process is noticed by its lease;
-- and which of the turn's events an entry stands for, so that a reader who comes back is told what it missed.

create table engine_replicas (
    id uuid primary key,
    lease_until timestamptz not null
);

alter table turns add column replica uuid;
-- How many events the turn had told before its end.
alter table turns add column events integer;
alter table messages add column event integer;
-- What a client keeps with its session.
alter table sessions add column metadata jsonb not null default '{}';

create index turns_of_replica on turns (replica) where status = 'running';
create index sessions_of_owner on sessions (tenant_id, owner, updated_at desc);

grant select on engine_replicas to weir_app;
