"""`tenants`: who there is."""

from weir_shared.db.pool import Connection


async def provision_any_tenant(connection: Connection, tenant_id: str) -> None:
    """Makes the tenant unless it exists."""
    await connection.execute("insert into tenants (id) values ($1) on conflict do nothing", tenant_id)
