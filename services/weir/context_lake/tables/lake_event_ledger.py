"""`lake_event_ledger` and `lake_event_order`: which events have been counted, and how far each object is known."""

from collections.abc import Collection, Mapping

from weir_shared.db.pool import Connection

KEPT_HOURS = 24


async def enter(
    connection: Connection, tenant_id: str, notification_id: str, events: Collection[bytes]
) -> set[bytes]:
    """Writes the events down and returns those that were not known."""
    rows = await connection.fetch(
        """
        insert into lake_event_ledger (tenant_id, notification_id, event)
        select $1, $2, event from unnest($3::bytea[]) as event
        on conflict do nothing
        returning event
        """,
        tenant_id,
        notification_id,
        sorted(events),
    )
    return {row["event"] for row in rows}


async def advance(
    connection: Connection, tenant_id: str, notification_id: str, newest: Mapping[bytes, str]
) -> set[bytes]:
    """Objects with their latest sequencers; those that were not known to be as far or farther."""
    rows = await connection.fetch(
        """
        insert into lake_event_order as known (tenant_id, notification_id, object, sequencer)
        select $1, $2, object, sequencer from unnest($3::bytea[], $4::text[]) as told (object, sequencer)
        on conflict (tenant_id, notification_id, object) do update
            set sequencer = excluded.sequencer, seen_at = now()
            where known.sequencer < excluded.sequencer
        returning object
        """,
        tenant_id,
        notification_id,
        sorted(newest),
        [newest[item] for item in sorted(newest)],
    )
    return {row["object"] for row in rows}


async def forget_old_any(connection: Connection) -> None:
    """What is older than a day is not told again by S3."""
    for table in ("lake_event_ledger", "lake_event_order"):
        await connection.execute(
            f"delete from {table} where seen_at < now() - make_interval(hours => $1)",  # noqa: S608
            KEPT_HOURS,
        )


async def forget_strays_any(connection: Connection) -> None:
    """What was counted of datasets that are gone."""
    for table in ("lake_event_ledger", "lake_event_order"):
        await connection.execute(
            f"delete from {table} as e where not exists "  # noqa: S608
            "(select from lake_notifications as n where n.id = e.notification_id)"
        )
