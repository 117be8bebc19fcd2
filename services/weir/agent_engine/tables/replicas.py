"""The replicas of the engine, each with a lease that it renews while it lives."""

from weir_shared.db.pool import Database


async def renew_any_lease(database: Database, replica_id: str, *, seconds: int) -> bool:
    """Holds the replica's lease for so long from now; False when it had run out, or never was."""
    async with database.any_tenant() as connection:
        held = await connection.fetchval(
            """
            with before as (select lease_until > now() as held from engine_replicas where id = $1)
            insert into engine_replicas (id, lease_until)
            values ($1, now() + make_interval(secs => $2))
            on conflict (id) do update set lease_until = excluded.lease_until
            returning coalesce((select held from before), false)
            """,
            replica_id,
            seconds,
        )
    return bool(held)


async def drop_any_lease(database: Database, replica_id: str) -> None:
    """The replica has ended; the leases of those that ended long ago go along."""
    async with database.any_tenant() as connection:
        await connection.execute(
            "delete from engine_replicas where id = $1 or lease_until < now() - interval '1 day'", replica_id
        )
