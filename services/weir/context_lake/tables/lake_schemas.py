"""`lake_schemas`: the last columns that a runtime has told of each dataset, by the dataset's key."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from weir_shared.db.pool import Connection


class KeptSchema(Struct, frozen=True):
    """The columns of a dataset as it was defined then; the schema is the runtime's to read."""

    fingerprint: str
    schema: bytes


async def read_schemas(
    connection: Connection, tenant_id: str, datasets: Iterable[str]
) -> dict[str, KeptSchema]:
    rows = await connection.fetch(
        """
        select dataset, fingerprint, schema from lake_schemas
        where tenant_id = $1 and dataset = any($2)
        """,
        tenant_id,
        list(datasets),
    )
    return {row["dataset"]: KeptSchema(row["fingerprint"], row["schema"]) for row in rows}


async def keep_schemas(connection: Connection, tenant_id: str, schemas: Mapping[str, KeptSchema]) -> None:
    """In the order of their names, so that two that keep the same ones do not wait for each other."""
    await connection.executemany(
        """
        insert into lake_schemas (tenant_id, dataset, fingerprint, schema) values ($1, $2, $3, $4)
        on conflict (tenant_id, dataset) do update
            set fingerprint = excluded.fingerprint, schema = excluded.schema, noted_at = now()
        """,
        [(tenant_id, name, schemas[name].fingerprint, schemas[name].schema) for name in sorted(schemas)],
    )


async def drop_schemas(connection: Connection, tenant_id: str, datasets: Iterable[str]) -> None:
    await connection.execute(
        "delete from lake_schemas where tenant_id = $1 and dataset = any($2)", tenant_id, list(datasets)
    )
