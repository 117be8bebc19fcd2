-- From where a change was asked for, and which fields it gave; and what finds rows that are older than an operator keeps.

alter table audit_log add column client_ip text, add column changes text[];
grant update (changes) on audit_log to weir_app;

create index audit_log_age on audit_log using brin (occurred_at);
create index tool_calls_age on tool_calls using brin (created_at);
