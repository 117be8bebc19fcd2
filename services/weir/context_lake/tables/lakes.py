"""`lakes` and `lake_configs`: the newest version of a lake, and every version before it."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from weir.context_lake.document import Document
from weir_shared.db.pool import Connection

KEPT_VERSIONS = 100


class StoredLake(Struct, frozen=True, kw_only=True):
    """A lake at its newest version; version 0 is the lake of a tenant that has changed nothing yet."""

    version: int = 0
    document: Document = Document()
    updated_at: datetime | None = None


class Newest(Struct, frozen=True, kw_only=True):
    version: int
    updated_at: datetime


class Version(Struct, frozen=True, kw_only=True):
    """Who made a version, when and why."""

    version: int
    author: str
    reason: str
    created_at: datetime


class KeptVersion(Version, frozen=True, kw_only=True):
    document: Document


class SealedLake(Struct, frozen=True, kw_only=True):
    """A lake and its secrets, of one moment."""

    version: int
    document: Document
    secrets: dict[str, bytes]


async def newest_version(connection: Connection, tenant_id: str) -> Newest | None:
    row = await connection.fetchrow("select version, updated_at from lakes where tenant_id = $1", tenant_id)
    return Newest(**dict(row)) if row else None


async def read_lake(connection: Connection, tenant_id: str) -> StoredLake:
    row = await connection.fetchrow(
        """
        select lakes.version, lakes.updated_at, lake_configs.document
        from lakes join lake_configs using (tenant_id, version)
        where lakes.tenant_id = $1
        """,
        tenant_id,
    )
    if row is None:
        return StoredLake()
    return StoredLake(
        version=row["version"], document=_document(row["document"]), updated_at=row["updated_at"]
    )


async def read_sealed_lake(
    connection: Connection, tenant_id: str, *, version: int | None = None
) -> SealedLake:
    """Document and secrets in one statement, so that no change falls between them; None: the newest version."""
    row = await connection.fetchrow(
        """
        select lake_configs.version, lake_configs.document,
            array(select reference from lake_secrets where tenant_id = $1 order by reference) as names,
            array(select sealed from lake_secrets where tenant_id = $1 order by reference) as sealed
        from lakes join lake_configs using (tenant_id)
        where lakes.tenant_id = $1 and lake_configs.version = coalesce($2, lakes.version)
        """,
        tenant_id,
        version,
    )
    if row is None:
        return SealedLake(version=0, document=Document(), secrets={})
    return SealedLake(
        version=row["version"],
        document=_document(row["document"]),
        secrets=dict(zip(row["names"], row["sealed"], strict=True)),
    )


async def advance(connection: Connection, tenant_id: str, version: int) -> bool:
    """Moves the lake from this version to the next; False when somebody else has moved it."""
    await connection.execute(
        "insert into lakes (tenant_id) values ($1) on conflict (tenant_id) do nothing", tenant_id
    )
    moved = await connection.fetchval(
        """
        update lakes set version = version + 1, updated_at = now()
        where tenant_id = $1 and version = $2
        returning version
        """,
        tenant_id,
        version,
    )
    return moved is not None


async def auto_applies(connection: Connection, tenant_id: str) -> bool:
    """Whether a running runtime gets each new version by itself."""
    found = await connection.fetchval("select auto_apply from lakes where tenant_id = $1", tenant_id)
    return True if found is None else found


async def set_auto_apply(connection: Connection, tenant_id: str, auto_apply: bool) -> None:
    await connection.execute(
        """
        insert into lakes (tenant_id, auto_apply) values ($1, $2)
        on conflict (tenant_id) do update set auto_apply = excluded.auto_apply
        """,
        tenant_id,
        auto_apply,
    )


async def append_config(
    connection: Connection, tenant_id: str, version: int, document: Document, *, author: str, reason: str
) -> None:
    await connection.execute(
        """
        insert into lake_configs (tenant_id, version, document, author, reason)
        values ($1, $2, $3, $4, $5)
        """,
        tenant_id,
        version,
        document,
        author,
        reason,
    )
    await connection.execute(
        "delete from lake_configs where tenant_id = $1 and version <= $2", tenant_id, version - KEPT_VERSIONS
    )


async def list_versions(
    connection: Connection, tenant_id: str, *, before: int | None, limit: int
) -> list[Version]:
    """The versions that are kept, newest first, from below `before` on."""
    rows = await connection.fetch(
        """
        select version, author, reason, created_at from lake_configs
        where tenant_id = $1 and ($2::integer is null or version < $2)
        order by version desc limit $3
        """,
        tenant_id,
        before,
        limit,
    )
    return [Version(**dict(row)) for row in rows]


async def read_version(connection: Connection, tenant_id: str, version: int) -> KeptVersion | None:
    row = await connection.fetchrow(
        """
        select version, author, reason, created_at, document from lake_configs
        where tenant_id = $1 and version = $2
        """,
        tenant_id,
        version,
    )
    if row is None:
        return None
    return KeptVersion(
        version=row["version"],
        author=row["author"],
        reason=row["reason"],
        created_at=row["created_at"],
        document=_document(row["document"]),
    )


def _document(value: Any) -> Document:
    return msgspec.convert(value, Document)
