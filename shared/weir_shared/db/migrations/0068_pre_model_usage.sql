-- What models were asked and what it cost, by day; it outlives the sessions, agents and models that it tells of.

create table model_usage (
    tenant_id uuid not null references tenants on delete cascade,
    day date not null,
    model text not null,
    agent text not null,
    -- Turns that end at once write different rows: nobody waits for another's commit.
    shard smallint not null,
    requests bigint not null,
    input_tokens bigint not null,
    output_tokens bigint not null,
    cached_tokens bigint not null,
    reasoning_tokens bigint not null,
    primary key (tenant_id, day, model, agent, shard)
) with (fillfactor = 70);

alter table model_usage enable row level security;
create policy tenant on model_usage using (tenant_id = current_setting('app.tenant_id')::uuid);
grant select, insert, update on model_usage to weir_app;

-- Within the statement that ends a turn: as exact as the turn itself, and no further round trip. In one order, so that
-- two who write several rows of one shard do not wait for each other.
create function add_model_usage(tenant uuid, spent jsonb) returns void language sql as $$
    insert into model_usage as kept (
        tenant_id, day, model, agent, shard, requests, input_tokens, output_tokens, cached_tokens, reasoning_tokens
    )
    select tenant, (now() at time zone 'UTC')::date, one.model, one.agent, pg_backend_pid() % 64,
           one.requests, one.input_tokens, one.output_tokens, one.cached_tokens, one.reasoning_tokens
    from jsonb_to_recordset(spent) as one (
        model text, agent text, requests bigint, input_tokens bigint, output_tokens bigint, cached_tokens bigint,
        reasoning_tokens bigint
    )
    order by one.model, one.agent
    on conflict (tenant_id, day, model, agent, shard) do update
    set requests = kept.requests + excluded.requests,
        input_tokens = kept.input_tokens + excluded.input_tokens,
        output_tokens = kept.output_tokens + excluded.output_tokens,
        cached_tokens = kept.cached_tokens + excluded.cached_tokens,
        reasoning_tokens = kept.reasoning_tokens + excluded.reasoning_tokens
$$;
