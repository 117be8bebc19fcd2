-- A search reads the passages that hold its words, whoever's they are, and keeps those of its bases. So the base is a word
-- of each passage (no parser makes one with a space): the index itself leaves out what belongs to others.
-- The text lies beside the row when both do not fit into half a page: ranking reads the words only.
alter table knowledge_chunks set (toast_tuple_target = 4080);
alter table knowledge_chunks drop column words;
-- In one statement: what is stored already is written anew, and by then the column must be known to stay beside its row.
alter table knowledge_chunks
    add column words tsvector generated always as (
        to_tsvector('simple', content) || array_to_tsvector(array['base ' || base_id::text])
    ) stored,
    alter column words set storage main;
create index knowledge_chunks_words on knowledge_chunks using gin (words) with (fastupdate = off);

create or replace function knowledge_worded(bases uuid[], wanted text, most integer) returns setof bigint
language sql stable security definer set search_path = pg_catalog, public as $$
    select id from knowledge_chunks
    where tenant_id = current_setting('app.tenant_id')::uuid and base_id = any(bases)
          and words @@ (
              (select string_agg(quote_literal('base ' || base), '|')::tsquery from unnest(bases) as base)
              && websearch_to_tsquery('simple', wanted)
          )
    order by ts_rank(words, websearch_to_tsquery('simple', wanted)) desc, id limit most
$$;
