"""`lake_pollers`: the workers that poll queues now, so that each has its share of them and no two fight."""

from weir_shared.db.pool import Connection

GONE_SECONDS = 8


async def take_share_any(connection: Connection, poller_id: str) -> tuple[int, int]:
    """This worker's place among the living ones, and how many they are."""
    await connection.execute(
        """
        insert into lake_pollers (id) values ($1) on conflict (id) do update set seen_at = now()
        """,
        poller_id,
    )
    await connection.execute(
        "delete from lake_pollers where seen_at < now() - make_interval(secs => $1)", float(GONE_SECONDS)
    )
    rows = await connection.fetch("select id from lake_pollers order by id")
    living = [row["id"] for row in rows]
    return (living.index(poller_id), len(living)) if poller_id in living else (0, 1)


async def leave_any(connection: Connection, poller_id: str) -> None:
    await connection.execute("delete from lake_pollers where id = $1", poller_id)
