"""`lake_secrets`: the sealed credentials of a lake, by their references."""

from collections.abc import Iterable, Mapping

from weir_shared.db.pool import Connection


async def keep_secrets(connection: Connection, tenant_id: str, sealed: Mapping[str, bytes]) -> None:
    await connection.executemany(
        """
        insert into lake_secrets (tenant_id, reference, sealed) values ($1, $2, $3)
        on conflict (tenant_id, reference) do update set sealed = excluded.sealed, updated_at = now()
        """,
        [(tenant_id, reference, content) for reference, content in sealed.items()],
    )


async def drop_secrets(connection: Connection, tenant_id: str, references: Iterable[str]) -> None:
    await connection.execute(
        "delete from lake_secrets where tenant_id = $1 and reference = any($2)", tenant_id, list(references)
    )


async def list_references(connection: Connection, tenant_id: str) -> set[str]:
    rows = await connection.fetch("select reference from lake_secrets where tenant_id = $1", tenant_id)
    return {row["reference"] for row in rows}
