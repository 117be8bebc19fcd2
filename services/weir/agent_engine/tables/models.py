"""Models as rows."""

from datetime import datetime

from msgspec import Struct

from weir_shared.db.pool import Connection, Record


class ModelRow(Struct, frozen=True, kw_only=True):
    id: int
    name: str
    type: str
    kind: str
    model_name: str
    base_url: str | None
    api_key_sealed: bytes | None
    api_version: str | None
    embedding_dim: int | None
    is_default: bool
    created_at: datetime
    updated_at: datetime


async def next_id(connection: Connection) -> int:
    """An id, known before its row, because it is part of what seals the row's key."""
    found = await connection.fetchval("select nextval('models_id_seq')")
    assert found is not None
    return found


async def add(connection: Connection, tenant_id: str, row: ModelRow) -> None:
    """Raises UniqueViolation: a name that exists, or a second default."""
    await connection.execute(
        """
        insert into models (
            tenant_id, id, name, type, kind, model_name, base_url, api_key_sealed, api_version,
            embedding_dim, is_default, created_at, updated_at
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        """,
        tenant_id,
        row.id,
        row.name,
        row.type,
        row.kind,
        row.model_name,
        row.base_url,
        row.api_key_sealed,
        row.api_version,
        row.embedding_dim,
        row.is_default,
        row.created_at,
        row.updated_at,
    )


async def every(connection: Connection, tenant_id: str, kind: str | None = None) -> list[ModelRow]:
    rows = await connection.fetch(
        """
        select id, name, type, kind, model_name, base_url, api_key_sealed, api_version, embedding_dim,
               is_default, created_at, updated_at
        from models
        where tenant_id = $1 and ($2::text is null or kind = $2)
        order by name
        """,
        tenant_id,
        kind,
    )
    return [_row(row) for row in rows]


async def find(connection: Connection, tenant_id: str, reference: str) -> ModelRow | None:
    """A model by its name or, when no name is meant, by its id; locked until the unit of work ends."""
    row = await connection.fetchrow(
        """
        select id, name, type, kind, model_name, base_url, api_key_sealed, api_version, embedding_dim,
               is_default, created_at, updated_at
        from models
        where tenant_id = $1 and (name = $2 or id::text = $2)
        order by (name = $2) desc
        limit 1
        for no key update
        """,
        tenant_id,
        reference,
    )
    return _row(row) if row else None


async def default(connection: Connection, tenant_id: str, kind: str) -> ModelRow | None:
    """The default model of a kind."""
    row = await connection.fetchrow(
        """
        select id, name, type, kind, model_name, base_url, api_key_sealed, api_version, embedding_dim,
               is_default, created_at, updated_at
        from models
        where tenant_id = $1 and kind = $2 and is_default
        """,
        tenant_id,
        kind,
    )
    return _row(row) if row else None


async def change(connection: Connection, tenant_id: str, row: ModelRow) -> None:
    await connection.execute(
        """
        update models
        set type = $3, kind = $4, model_name = $5, base_url = $6, api_key_sealed = $7, api_version = $8,
            embedding_dim = $9, is_default = $10, updated_at = $11
        where tenant_id = $1 and id = $2
        """,
        tenant_id,
        row.id,
        row.type,
        row.kind,
        row.model_name,
        row.base_url,
        row.api_key_sealed,
        row.api_version,
        row.embedding_dim,
        row.is_default,
        row.updated_at,
    )


async def lock_every(connection: Connection, tenant_id: str) -> None:
    """Locks the tenant's models, always in one order: two who move the default at once do it one after the other."""
    await connection.execute(
        "select from models where tenant_id = $1 order by id for no key update", tenant_id
    )


async def clear_default(connection: Connection, tenant_id: str, kind: str) -> None:
    await connection.execute(
        "update models set is_default = false where tenant_id = $1 and kind = $2 and is_default",
        tenant_id,
        kind,
    )


async def remove(connection: Connection, tenant_id: str, id: int) -> None:
    """Raises ForeignKeyViolation while an agent uses the model."""
    await connection.execute("delete from models where tenant_id = $1 and id = $2", tenant_id, id)


async def names(connection: Connection, tenant_id: str) -> list[str]:
    rows = await connection.fetch("select name from models where tenant_id = $1 order by name", tenant_id)
    return [row["name"] for row in rows]


async def agents_using(connection: Connection, tenant_id: str, id: int) -> list[str]:
    rows = await connection.fetch(
        "select name from agents where tenant_id = $1 and model_id = $2 order by name", tenant_id, id
    )
    return [row["name"] for row in rows]


def _row(row: Record) -> ModelRow:
    return ModelRow(**dict(row))
