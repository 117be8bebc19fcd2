-- Knowledge bases: files that were uploaded, the passages that they were cut into, and the passages' vectors.

create table knowledge_bases (
    tenant_id uuid not null references tenants on delete cascade,
    id uuid not null,
    name text not null,
    description text not null default '',
    embedding_model_id bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (tenant_id, id),
    unique (tenant_id, name),
    foreign key (tenant_id, embedding_model_id) references models (tenant_id, id)
);

create index knowledge_bases_of_model on knowledge_bases (tenant_id, embedding_model_id);

-- `live` is the generation of passages that searches see; one that is being made has another number until it is whole.
create table knowledge_files (
    tenant_id uuid not null,
    id uuid not null,
    base_id uuid not null,
    name text not null,
    type text not null,
    size integer not null,
    digest bytea not null,
    status text not null check (status in ('uploading', 'indexing', 'ready', 'error')),
    message text,
    chunk_count integer not null default 0,
    chunks_done integer not null default 0,
    live uuid,
    claim uuid,
    claimed_until timestamptz,
    attempts integer not null default 0,
    created_at timestamptz not null,
    indexed_at timestamptz,
    primary key (tenant_id, id),
    foreign key (tenant_id, base_id) references knowledge_bases (tenant_id, id) on delete cascade
);

create index knowledge_files_of_base on knowledge_files (tenant_id, base_id, created_at, id);
create index knowledge_files_unindexed on knowledge_files (claimed_until) where status = 'indexing';

create table knowledge_file_parts (
    tenant_id uuid not null,
    file_id uuid not null,
    position integer not null,
    content bytea not null,
    primary key (tenant_id, file_id, position),
    foreign key (tenant_id, file_id) references knowledge_files (tenant_id, id) on delete cascade
);
-- What is uploaded is compressed already or small.
alter table knowledge_file_parts alter column content set storage external;

create table knowledge_chunks (
    id bigint generated always as identity primary key,
    tenant_id uuid not null,
    base_id uuid not null,
    file_id uuid not null,
    generation uuid not null,
    position integer not null,
    content text not null,
    words tsvector generated always as (to_tsvector('simple', content)) stored,
    foreign key (tenant_id, file_id) references knowledge_files (tenant_id, id) on delete cascade
);

create index knowledge_chunks_of_file on knowledge_chunks (tenant_id, file_id, generation);
create index knowledge_chunks_words on knowledge_chunks using gin (words);

do $$
declare
    each text;
begin
    foreach each in array array['knowledge_bases', 'knowledge_files', 'knowledge_file_parts', 'knowledge_chunks'] loop
        execute format('alter table %I enable row level security', each);
        execute format(
            'create policy tenant on %I using (tenant_id = current_setting(''app.tenant_id'')::uuid)', each
        );
        execute format('grant select, insert, update, delete on %I to weir_app', each);
    end loop;
end
$$;

-- The vectors need pgvector, which a server may not have, or get later: whoever finds them missing asks for them here.
create function make_knowledge_vectors() returns boolean language plpgsql as $$
begin
    if to_regclass('public.knowledge_vectors') is not null then
        return true;
    end if;
    perform pg_advisory_xact_lock(hashtext('knowledge_vectors'));
    if to_regclass('public.knowledge_vectors') is not null then
        return true;
    end if;
    if to_regtype('vector') is null then
        if not exists (select from pg_available_extensions where name = 'vector') then
            return false;
        end if;
        begin
            create extension if not exists vector;
        exception when insufficient_privilege then
            return false;
        end;
    end if;
    -- Before 0.8 an index cannot be searched on until enough of a tenant's own vectors are found.
    if (
        select string_to_array(substring(extversion from '^[0-9]+\.[0-9]+'), '.')::integer[] < array[0, 8]
        from pg_extension where extname = 'vector'
    ) then
        return false;
    end if;
    create table knowledge_vectors (
        chunk_id bigint primary key references knowledge_chunks on delete cascade,
        tenant_id uuid not null,
        base_id uuid not null,
        dimension integer not null,
        embedding vector not null
    );
    create index knowledge_vectors_of_base on knowledge_vectors (tenant_id, base_id, dimension);
    alter table knowledge_vectors enable row level security;
    create policy tenant on knowledge_vectors using (tenant_id = current_setting('app.tenant_id')::uuid);
    grant select, insert, update, delete on knowledge_vectors to weir_app;
    return true;
end
$$;

-- An index for each dimension, made before the first vector of it comes; half the precision is enough to choose by.
create function make_knowledge_index(dimension integer) returns void language plpgsql as $$
declare
    index_name text := format('knowledge_vectors_near_%s', dimension);
begin
    if dimension > 4000 or to_regclass('public.' || index_name) is not null then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtext('knowledge_vectors'));
    execute format(
        'create index if not exists %I on knowledge_vectors using hnsw '
        '((embedding::halfvec(%s)) halfvec_cosine_ops) where dimension = %s',
        index_name, dimension, dimension
    );
end
$$;

select make_knowledge_vectors();
