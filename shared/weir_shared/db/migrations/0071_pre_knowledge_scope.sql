-- A search reads the passages that hold its words, whoever's they are, and keeps those of its bases. So the base is a word
-- of each passage (no parser makes one with a space): the index itself leaves out what belongs to others.
-- A search visits the rows of thousands of passages and reads the words or the text of a few: both lie beside the rows, which
-- then fill a fiftieth of the pages.
alter table knowledge_chunks set (toast_tuple_target = 256);
alter table knowledge_chunks drop column words;
-- In one statement: what is stored already is written anew, and by then it must be known how.
alter table knowledge_chunks
    add column words tsvector generated always as (
        to_tsvector('simple', content) || array_to_tsvector(array['base ' || base_id::text])
    ) stored,
    alter column words set storage external;
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

-- Ranking by what a row holds reads four kilobytes of each; which word is in which row the index knows alone. So each word is
-- looked up by itself, and weighs the more the fewer passages have it (as in BM25); one that `common` passages have tells
-- nothing, unless all do. Only of the best is read how often they have the words, which decides between equals.
create function knowledge_with_words(bases uuid[], asked text[], passages integer, common integer, most integer)
returns setof bigint language sql stable security definer set search_path = pg_catalog, public as $$
    with wanted as materialized (
        select place, phraseto_tsquery('simple', word) as query from unnest(asked) with ordinality as words (word, place)
    ), scope as materialized (
        select string_agg(quote_literal('base ' || base), '|')::tsquery as query from unnest(bases) as base
    ), found as materialized (
        select wanted.place, hits.id
        from wanted cross join scope cross join lateral (
            select chunks.id from knowledge_chunks as chunks
            where chunks.tenant_id = current_setting('app.tenant_id')::uuid and chunks.base_id = any(bases)
                  and chunks.words @@ (scope.query && wanted.query)
            limit common
        ) as hits
    ), weights as materialized (
        select place, ln(1 + passages::float8 / count(*)) as weight, count(*) >= common as is_common
        from found group by place
    ), best as materialized (
        select found.id, sum(weights.weight) as weight
        from found join weights on weights.place = found.place
        where not weights.is_common or not exists (select from weights as others where not others.is_common)
        group by found.id
        order by weight desc
        fetch first most rows with ties
    ), read as materialized (
        select id, weight from best order by weight desc, id limit 4 * most
    ), every as materialized (
        select string_agg('(' || query::text || ')', '|')::tsquery as query from wanted where numnode(query) > 0
    )
    select read.id
    from read join knowledge_chunks as chunks on chunks.id = read.id cross join every
    order by read.weight desc, ts_rank(chunks.words, every.query) desc, read.id
    limit most
$$;

revoke all on function knowledge_with_words(uuid[], text[], integer, integer, integer) from public;
grant execute on function knowledge_with_words(uuid[], text[], integer, integer, integer) to weir_app;
