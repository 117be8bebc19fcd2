-- One default model of each kind: one to chat with, and one to embed texts with.
drop index models_default;
create unique index models_default on models (tenant_id, kind) where is_default;
