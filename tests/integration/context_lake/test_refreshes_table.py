"""Wishes for refreshes as rows: none is lost, many are one, and one that comes meanwhile has its own run."""

from weir.context_lake.tables import lake_refreshes
from weir_shared.db.pool import Database


async def want(database: Database, tenant_id: str, **options: float) -> None:
    async with database.tenant(tenant_id) as connection:
        await lake_refreshes.want(connection, tenant_id, "sales", trigger="sqs", **options)


async def claim(database: Database, tenant_id: str, seconds: float = 30) -> lake_refreshes.Claim | None:
    async with database.tenant(tenant_id) as connection:
        return await lake_refreshes.claim(connection, tenant_id, "sales", seconds=seconds)


async def succeed(database: Database, tenant_id: str, claimed: lake_refreshes.Claim | None) -> bool:
    assert claimed is not None
    async with database.tenant(tenant_id) as connection:
        return await lake_refreshes.succeed(
            connection, tenant_id, "sales", claimed.token, row_count=3, byte_count=None
        )


async def test_many_wishes_are_one_refresh(database: Database, tenant_id: str) -> None:
    for _ in range(5):
        await want(database, tenant_id)
    claimed = await claim(database, tenant_id)
    assert await claim(database, tenant_id) is None, "one at a time"
    assert await succeed(database, tenant_id, claimed)
    assert await claim(database, tenant_id) is None


async def test_a_wish_during_a_refresh_has_one_of_its_own(database: Database, tenant_id: str) -> None:
    await want(database, tenant_id)
    claimed = await claim(database, tenant_id)
    await want(database, tenant_id)
    await want(database, tenant_id)
    assert await succeed(database, tenant_id, claimed)
    assert await succeed(database, tenant_id, await claim(database, tenant_id))
    assert await claim(database, tenant_id) is None


async def test_a_wish_waits_for_quiet_but_not_for_ever(database: Database, tenant_id: str) -> None:
    await want(database, tenant_id, quiet_seconds=60)
    assert await claim(database, tenant_id) is None
    await want(database, tenant_id, quiet_seconds=60, most_seconds=0)
    assert await claim(database, tenant_id) is not None


async def test_a_lost_refresh_is_done_again_and_its_end_is_not_taken(
    database: Database, tenant_id: str
) -> None:
    await want(database, tenant_id)
    lost = await claim(database, tenant_id, seconds=-1)
    again = await claim(database, tenant_id)
    assert not await succeed(database, tenant_id, lost)
    assert await succeed(database, tenant_id, again)


async def test_a_failed_refresh_is_tried_again_after_a_while(database: Database, tenant_id: str) -> None:
    await want(database, tenant_id)
    for retry_seconds in (0.0, 60.0):
        claimed = await claim(database, tenant_id)
        assert claimed is not None
        async with database.tenant(tenant_id) as connection:
            assert await lake_refreshes.fail(
                connection, tenant_id, "sales", claimed.token, error="gone", retry_seconds=retry_seconds
            )
    assert await claim(database, tenant_id) is None
