"""The listing that finds what no message told of."""

from typing import Any

import pytest
from msgspec.structs import replace
from tests.integration.context_lake.buckets import Cloud
from tests.integration.context_lake.conftest import Caller, Lake, eventually

from weir.context_lake.notifications.reconciling import Reconciler, reconcile_any
from weir.context_lake.roles import Roles
from weir.context_lake.surroundings import surroundings_of
from weir_shared.sealing import Vault, load_or_create_keys


@pytest.fixture
def cloud(moto_url: str) -> Cloud:
    return Cloud(moto_url)


@pytest.fixture
def reconciler(lake: Lake) -> Reconciler:
    around = surroundings_of(lake.settings)
    vault = Vault(lake.database, load_or_create_keys(lake.settings.keys_dir / "kek"))
    return Reconciler(lake.database, vault, around, Roles(around), 3600)


async def triggers(caller: Caller) -> list[str]:
    async with caller.database.tenant(caller.tenant_id) as connection:
        rows = await connection.fetch(
            "select trigger from lake_refreshes where tenant_id = $1 and wish > 0", caller.tenant_id
        )
    return [row["trigger"] for row in rows]


async def an_hour_later(caller: Caller, reconciler: Reconciler) -> str | None:
    """The dataset's listing, made anew."""
    async with caller.database.tenant(caller.tenant_id) as connection:
        await connection.execute(
            "update lake_notifications set listed_at = now() - interval '61 minutes' where tenant_id = $1",
            caller.tenant_id,
        )
    await reconcile_any(reconciler)
    async with caller.database.tenant(caller.tenant_id) as connection:
        return await connection.fetchval(
            "select listing from lake_notifications where tenant_id = $1", caller.tenant_id
        )


@pytest.mark.parametrize("auth", ["public", "key"])
async def test_a_change_that_nobody_told_of_is_found_by_listing(
    caller: Caller, cloud: Cloud, reconciler: Reconciler, auth: str
) -> None:
    bucket = cloud.bucket()
    cloud.s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    cloud.put(bucket, "data/a.parquet", 1)
    params = {"file_format": "parquet"}
    if auth == "key":
        params |= {"s3_auth": "key", "s3_key": "AKIAEXAMPLE", "s3_secret": "shh"}
    await caller.add("sales", f"s3://{bucket}/data/", params=params, notifications=True)
    assert await caller.rows("select count(*) as n from sales") == [{"n": 1}]
    first = await an_hour_later(caller, reconciler)
    assert first is not None
    cloud.put(bucket, "data/_SUCCESS", 1)
    cloud.put(bucket, "elsewhere/a.parquet", 1)
    assert await an_hour_later(caller, reconciler) == first
    assert await triggers(caller) == []
    cloud.put(bucket, "data/b.parquet", 2)
    assert await an_hour_later(caller, reconciler) != first
    assert await triggers(caller) == ["reconcile"]

    async def is_refreshed() -> bool:
        return (await caller.status())["datasets"]["sales"]["s3LastRefreshAt"] is not None

    await eventually(is_refreshed)
    assert (await caller.status())["datasets"]["sales"]["s3EventCount"] == 0


async def test_a_dataset_whose_runtime_sleeps_is_not_listed(
    caller: Caller, cloud: Cloud, reconciler: Reconciler
) -> None:
    bucket = cloud.bucket()
    await caller.add("sales", f"s3://{bucket}/data/", params={"file_format": "parquet"}, notifications=True)
    assert await an_hour_later(caller, reconciler) is None


async def test_a_bucket_that_cannot_be_listed_is_left_for_the_next_time(
    caller: Caller, cloud: Cloud, reconciler: Reconciler
) -> None:
    bucket = cloud.bucket()
    cloud.put(bucket, "data/a.parquet", 1)
    await caller.add("sales", f"s3://{bucket}/data/", params={"file_format": "parquet"}, notifications=True)
    assert await caller.rows("select count(*) as n from sales") == [{"n": 1}]
    around = replace(reconciler.surroundings, aws_endpoint_url="http://127.0.0.1:9")
    broken: Any = Reconciler(reconciler.database, reconciler.vault, around, reconciler.lender, 3600)
    known = await an_hour_later(caller, reconciler)
    assert await an_hour_later(caller, broken) == known
    assert await triggers(caller) == []
