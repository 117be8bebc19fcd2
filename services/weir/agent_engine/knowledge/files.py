"""The files of a knowledge base: taken in, told about, indexed anew, deleted."""

import asyncio
import hashlib

from weir.agent_engine.knowledge.bases import find_base
from weir.agent_engine.knowledge.form import Uploaded
from weir.agent_engine.knowledge.vectors import require_vectors
from weir.agent_engine.naming import invalid, missing
from weir.agent_engine.studio import Studio
from weir.agent_engine.tables import knowledge
from weir.agent_engine.tables.knowledge import FileRow
from weir.agent_engine.wire.knowledge import FileDetail
from weir_shared.clock import now, rfc3339
from weir_shared.db.pool import Connection, Database
from weir_shared.ids import new_id, parse_uuid

JOB = "knowledge.index"
TYPES = {
    "txt": "txt",
    "md": "md",
    "markdown": "md",
    "csv": "csv",
    "json": "json",
    "html": "html",
    "htm": "html",
    "pdf": "pdf",
    "docx": "docx",
}


async def list_files(database: Database, tenant_id: str, base: str) -> list[FileDetail]:
    """Oldest first."""
    async with database.tenant(tenant_id) as connection:
        row = await find_base(connection, tenant_id, base)
        return [detail(file) for file in await knowledge.every_file(connection, tenant_id, row.id)]


async def read_file(database: Database, tenant_id: str, base: str, id: str) -> FileDetail:
    async with database.tenant(tenant_id) as connection:
        return detail(await _find(connection, tenant_id, base, id))


async def add_file(studio: Studio, tenant_id: str, base: str, uploaded: Uploaded) -> FileDetail:
    """The file is in the ledger when this returns; the same one once more is the one there is.

    Raises ValidationFailed, NotFound, NoVectors.
    """
    type = type_of(uploaded.name)
    if not uploaded.content:
        raise invalid("file", "the file is empty")
    await require_vectors(studio.database)
    digest = await asyncio.to_thread(lambda: hashlib.sha256(uploaded.content).digest())
    async with studio.database.tenant(tenant_id) as connection:
        row = await find_base(connection, tenant_id, base)
        await knowledge.lock_base(connection, tenant_id, row.id)
        # It may have gone while the lock was waited for.
        row = await find_base(connection, tenant_id, row.id)
        file = await knowledge.same_file(connection, tenant_id, row.id, uploaded.name, digest)
        if file is None:
            file = FileRow(
                id=new_id(),
                base_id=row.id,
                name=uploaded.name,
                type=type,
                size=len(uploaded.content),
                digest=digest,
                status="indexing",
                message=None,
                chunk_count=0,
                chunks_done=0,
                created_at=now(),
                indexed_at=None,
            )
            await knowledge.add_file(connection, tenant_id, file)
            await knowledge.add_parts(connection, tenant_id, file.id, uploaded.content)
        elif file.status == "error":
            await knowledge.index_anew(connection, tenant_id, [file.id], hide=False)
            file = await _find(connection, tenant_id, row.id, file.id)
    if file.status == "indexing":
        await ring(studio, tenant_id, file.id)
    return detail(file)


async def delete_file(database: Database, tenant_id: str, base: str, id: str) -> None:
    async with database.tenant(tenant_id) as connection:
        file = await _find(connection, tenant_id, base, id)
        await knowledge.remove_file(connection, tenant_id, file.id)


async def reindex_file(studio: Studio, tenant_id: str, base: str, id: str) -> None:
    """The passages there are can be found until the new ones are whole."""
    await require_vectors(studio.database)
    async with studio.database.tenant(tenant_id) as connection:
        file = await _find(connection, tenant_id, base, id)
        await knowledge.index_anew(connection, tenant_id, [file.id], hide=False)
    await ring(studio, tenant_id, file.id)


async def reindex_every(studio: Studio, tenant_id: str, base: str) -> None:
    await require_vectors(studio.database)
    async with studio.database.tenant(tenant_id) as connection:
        row = await find_base(connection, tenant_id, base)
        files = await knowledge.every_file(connection, tenant_id, row.id)
        await knowledge.index_anew(connection, tenant_id, [file.id for file in files], hide=False)
    for file in files:
        await ring(studio, tenant_id, file.id)


async def ring(studio: Studio, tenant_id: str, id: str) -> None:
    await studio.doorbell.ring(JOB, key=id, tenant_id=tenant_id, file_id=id)


def type_of(name: str) -> str:
    """Raises ValidationFailed for a name that ends as no file that can be read."""
    ending = name.rpartition(".")[2].lower()
    if "." not in name or ending not in TYPES:
        shown = ", ".join(f".{known}" for known in TYPES)
        raise invalid("file", f"'{name[:100]}' is no file that can be read; its name has to end in {shown}")
    return TYPES[ending]


async def _find(connection: Connection, tenant_id: str, base: str, id: str) -> FileRow:
    row = await find_base(connection, tenant_id, base)
    known = parse_uuid(id)
    file = await knowledge.find_file(connection, tenant_id, row.id, known) if known else None
    if file is None:
        raise missing("file", id)
    return file


def detail(row: FileRow) -> FileDetail:
    return FileDetail(
        id=row.id,
        file_name=row.name,
        file_type=row.type,
        file_size=row.size,
        status=row.status,
        status_message=row.message,
        chunk_count=row.chunk_count,
        chunks_done=row.chunks_done,
        created_at=rfc3339(row.created_at),
        indexed_at=rfc3339(row.indexed_at) if row.indexed_at else None,
    )
