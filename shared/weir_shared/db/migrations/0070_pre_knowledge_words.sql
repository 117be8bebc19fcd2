-- Passages by their words. Under row-level security an index may only be asked by operators that are leakproof, and `@@` is
-- not: every passage of every tenant would be read. So this runs as the owner, and keeps to the tenant itself.
create function knowledge_worded(bases uuid[], wanted text, most integer) returns setof bigint
language sql stable security definer set search_path = pg_catalog, public as $$
    select id from knowledge_chunks
    where tenant_id = current_setting('app.tenant_id')::uuid and base_id = any(bases)
          and words @@ websearch_to_tsquery('simple', wanted)
    order by ts_rank(words, websearch_to_tsquery('simple', wanted)) desc, id limit most
$$;

revoke all on function knowledge_worded(uuid[], text, integer) from public;
grant execute on function knowledge_worded(uuid[], text, integer) to weir_app;

-- A search right after an upload would read the list of what is not sorted in yet, from one end to the other.
alter index knowledge_chunks_words set (fastupdate = off);
-- Ranking reads the words of every passage that has one of those asked for: beside the row, not in another place.
alter table knowledge_chunks alter column words set storage main;
-- A row that fits into a page is neither compressed nor put elsewhere: half the time of a search, for half as much space again.
alter table knowledge_chunks set (toast_tuple_target = 8160);
