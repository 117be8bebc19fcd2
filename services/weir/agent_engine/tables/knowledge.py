"""Knowledge bases and their files as rows."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from weir_shared.db.pool import Connection

PART_BYTES = 1024 * 1024


class BaseRow(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    description: str
    embedding_model_id: int
    embedding_model: str
    file_count: int
    linked_agents: list[str]
    created_at: datetime
    updated_at: datetime


class FileRow(Struct, frozen=True, kw_only=True):
    id: str
    base_id: str
    name: str
    type: str
    size: int
    digest: bytes
    status: str
    message: str | None
    chunk_count: int
    chunks_done: int
    created_at: datetime
    indexed_at: datetime | None


_BASES = """
    select bases.id, bases.name, bases.description, bases.embedding_model_id, models.name as embedding_model,
           (
               select count(*) from knowledge_files as files
               where files.tenant_id = bases.tenant_id and files.base_id = bases.id
           ) as file_count,
           array(
               select agents.name from agents
               where agents.tenant_id = bases.tenant_id and bases.name = any(agents.knowledge_base_ids)
               order by agents.name
           ) as linked_agents,
           bases.created_at, bases.updated_at
    from knowledge_bases as bases
    join models on models.tenant_id = bases.tenant_id and models.id = bases.embedding_model_id
"""
_FILES = """
    select id, base_id, name, type, size, digest, status, message, chunk_count, chunks_done, created_at, indexed_at
    from knowledge_files
"""


async def every_base(connection: Connection, tenant_id: str) -> list[BaseRow]:
    rows = await connection.fetch(_BASES + "where bases.tenant_id = $1 order by bases.name", tenant_id)
    return [BaseRow(**dict(row)) for row in rows]


async def find_base(connection: Connection, tenant_id: str, name: str, id: str | None) -> BaseRow | None:
    row = await connection.fetchrow(
        _BASES + "where bases.tenant_id = $1 and (bases.name = $2 or bases.id = $3)", tenant_id, name, id
    )
    return BaseRow(**dict(row)) if row else None


async def hold_names(connection: Connection, tenant_id: str) -> dict[str, str]:
    """The name of each base by its id; none of them goes before the unit of work ends."""
    rows = await connection.fetch(
        "select id, name from knowledge_bases where tenant_id = $1 order by name for key share", tenant_id
    )
    return {row["id"]: row["name"] for row in rows}


async def lock_base(connection: Connection, tenant_id: str, id: str) -> None:
    """Nobody links the base, or adds a file to it, until the unit of work ends."""
    await connection.execute(
        "select from knowledge_bases where tenant_id = $1 and id = $2 for update", tenant_id, id
    )


async def add_base(
    connection: Connection, tenant_id: str, id: str, name: str, description: str, model_id: int, at: datetime
) -> None:
    """Raises UniqueViolation for a name that exists, ForeignKeyViolation for a model that is gone."""
    await connection.execute(
        """
        insert into knowledge_bases (
            tenant_id, id, name, description, embedding_model_id, created_at, updated_at
        )
        values ($1, $2, $3, $4, $5, $6, $6)
        """,
        tenant_id,
        id,
        name,
        description,
        model_id,
        at,
    )


async def change_base(
    connection: Connection, tenant_id: str, id: str, description: str, model_id: int, at: datetime
) -> None:
    await connection.execute(
        """
        update knowledge_bases set description = $3, embedding_model_id = $4, updated_at = $5
        where tenant_id = $1 and id = $2
        """,
        tenant_id,
        id,
        description,
        model_id,
        at,
    )


async def remove_base(connection: Connection, tenant_id: str, id: str) -> None:
    await connection.execute("delete from knowledge_bases where tenant_id = $1 and id = $2", tenant_id, id)


async def link(connection: Connection, tenant_id: str, base: str, agent_id: str, at: datetime) -> None:
    await connection.execute(
        """
        update agents set knowledge_base_ids = knowledge_base_ids || $3::text, updated_at = $4
        where tenant_id = $1 and id = $2 and not $3 = any(knowledge_base_ids)
        """,
        tenant_id,
        agent_id,
        base,
        at,
    )


async def unlink(connection: Connection, tenant_id: str, base: str, agent_id: str, at: datetime) -> None:
    await connection.execute(
        """
        update agents set knowledge_base_ids = array_remove(knowledge_base_ids, $3), updated_at = $4
        where tenant_id = $1 and id = $2 and $3 = any(knowledge_base_ids)
        """,
        tenant_id,
        agent_id,
        base,
        at,
    )


async def bases_using(connection: Connection, tenant_id: str, model_id: int) -> list[str]:
    rows = await connection.fetch(
        "select name from knowledge_bases where tenant_id = $1 and embedding_model_id = $2 order by name",
        tenant_id,
        model_id,
    )
    return [row["name"] for row in rows]


async def every_file(connection: Connection, tenant_id: str, base_id: str) -> list[FileRow]:
    rows = await connection.fetch(
        _FILES + "where tenant_id = $1 and base_id = $2 order by created_at, id", tenant_id, base_id
    )
    return [FileRow(**dict(row)) for row in rows]


async def find_file(connection: Connection, tenant_id: str, base_id: str, id: str) -> FileRow | None:
    """A file; locked until the unit of work ends."""
    row = await connection.fetchrow(
        _FILES + "where tenant_id = $1 and base_id = $2 and id = $3 for no key update", tenant_id, base_id, id
    )
    return FileRow(**dict(row)) if row else None


async def same_file(
    connection: Connection, tenant_id: str, base_id: str, name: str, digest: bytes
) -> FileRow | None:
    row = await connection.fetchrow(
        _FILES
        + "where tenant_id = $1 and base_id = $2 and name = $3 and digest = $4 limit 1 for no key update",
        tenant_id,
        base_id,
        name,
        digest,
    )
    return FileRow(**dict(row)) if row else None


async def add_file(connection: Connection, tenant_id: str, row: FileRow) -> None:
    await connection.execute(
        """
        insert into knowledge_files (tenant_id, id, base_id, name, type, size, digest, status, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        """,
        tenant_id,
        row.id,
        row.base_id,
        row.name,
        row.type,
        row.size,
        row.digest,
        row.status,
        row.created_at,
    )


async def add_parts(connection: Connection, tenant_id: str, file_id: str, content: bytes) -> None:
    for position, start in enumerate(range(0, len(content), PART_BYTES)):
        await connection.execute(
            "insert into knowledge_file_parts (tenant_id, file_id, position, content) values ($1, $2, $3, $4)",
            tenant_id,
            file_id,
            position,
            content[start : start + PART_BYTES],
        )


async def content_of(connection: Connection, tenant_id: str, file_id: str) -> bytes:
    pieces: list[bytes] = []
    while True:
        piece = await connection.fetchval(
            """
            select content from knowledge_file_parts
            where tenant_id = $1 and file_id = $2 and position = $3
            """,
            tenant_id,
            file_id,
            len(pieces),
        )
        if piece is None:
            return b"".join(pieces)
        pieces.append(piece)


async def remove_file(connection: Connection, tenant_id: str, id: str) -> None:
    await connection.execute("delete from knowledge_files where tenant_id = $1 and id = $2", tenant_id, id)


async def index_anew(connection: Connection, tenant_id: str, ids: Sequence[str], *, hide: bool) -> None:
    """Has files indexed again by whoever comes first; the passages there are stay to be found, unless hidden."""
    await connection.execute(
        """
        update knowledge_files
        set status = 'indexing', message = null, chunks_done = 0, claim = null, claimed_until = null,
            attempts = 0, live = case when $3 then null else live end
        where tenant_id = $1 and id = any($2::uuid[])
        """,
        tenant_id,
        list(ids),
        hide,
    )


async def make_vectors_any(connection: Connection) -> bool:
    """Makes the table of vectors where it is missing; False when the server has no pgvector to make it with."""
    return bool(await connection.fetchval("select make_knowledge_vectors()"))
