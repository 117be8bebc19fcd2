"""From a dataset that wants to be told of changes to its queue, and back again."""

import json
from typing import Any

import pytest
from msgspec.structs import replace
from tests.integration.context_lake.buckets import Cloud
from tests.integration.context_lake.conftest import eventually
from tests.serving import served

from weir.context_lake.app import create_app
from weir.context_lake.notifications import tidying
from weir.context_lake.notifications.queues import Queues

INSTRUCTIONS = [
    "Go to S3 → your bucket → Properties → Event notifications",
    "Create notification with events: ObjectCreated:*, ObjectRemoved:*",
    "Destination = SQS queue, paste the ARN above",
]


@pytest.fixture(scope="session")
def cloud(moto_url: str) -> Cloud:
    return Cloud(moto_url)


@pytest.fixture
def bucket(cloud: Cloud) -> str:
    return cloud.bucket()


def dataset(bucket: str, **more: Any) -> dict[str, Any]:
    body = {"name": "sales", "from": f"s3://{bucket}/data/", "params": {"file_format": "parquet"}}
    return body | {"notifications": True} | more


async def add(caller: Any, body: dict[str, Any]) -> dict[str, Any]:
    answer = await caller.http.post("/datasets", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def put(caller: Any, body: dict[str, Any]) -> dict[str, Any]:
    answer = await caller.http.put(f"/datasets/{body['name']}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def names_of(arn: str) -> set[str]:
    name = arn.rpartition(":")[2]
    return {name, f"{name}-dlq"}


async def counted(caller: Any) -> dict[str, Any]:
    return (await caller.status())["datasets"]["sales"]


async def forget_grace(caller: Any) -> None:
    async with caller.database.tenant(caller.tenant_id) as connection:
        await connection.execute(
            "update lake_queue_removals set due_at = now() where tenant_id = $1", caller.tenant_id
        )


async def removals(caller: Any) -> set[str]:
    async with caller.database.tenant(caller.tenant_id) as connection:
        rows = await connection.fetch(
            "select queue_name from lake_queue_removals where tenant_id = $1", caller.tenant_id
        )
    return {row["queue_name"] for row in rows}


async def test_a_dataset_with_notifications_gets_a_queue_of_its_own(
    caller: Any, cloud: Cloud, bucket: str
) -> None:
    answer = await add(caller, dataset(bucket))
    told = answer["notifications"]
    assert answer["ok"] is True
    assert told["region"] == "us-east-1"
    assert told["instructions"] == INSTRUCTIONS
    name = told["queueArn"].rpartition(":")[2]
    assert told["queueArn"].startswith("arn:aws:sqs:us-east-1:")
    assert name.startswith(f"lake-{caller.tenant_id[:8]}-")
    attributes = cloud.attributes(told["queueArn"])
    assert attributes["VisibilityTimeout"] == "300"
    assert attributes["ReceiveMessageWaitTimeSeconds"] == "20"
    assert attributes["MessageRetentionPeriod"] == str(14 * 24 * 3600)
    assert attributes["SqsManagedSseEnabled"] == "true"
    redrive = json.loads(attributes["RedrivePolicy"])
    assert str(redrive["maxReceiveCount"]) == "5"
    assert redrive["deadLetterTargetArn"] == told["queueArn"] + "-dlq"
    assert cloud.attributes(redrive["deadLetterTargetArn"])["MessageRetentionPeriod"] == str(14 * 24 * 3600)
    allow, deny = json.loads(attributes["Policy"])["Statement"]
    assert allow["Principal"] == {"Service": "s3.amazonaws.com"}
    assert allow["Condition"] == {"ArnLike": {"aws:SourceArn": f"arn:aws:s3:::{bucket}"}}
    assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    shown = (await caller.http.get("/datasets/sales")).json()
    assert shown["notificationsInfo"] == told | {"state": "pending"}
    [listed] = (await caller.http.get("/datasets")).json()["datasets"]
    assert listed["notificationsInfo"]["queueArn"] == told["queueArn"]


async def test_the_account_of_the_bucket_is_asked_for_when_it_is_known(
    caller: Any, cloud: Cloud, bucket: str
) -> None:
    params = {"file_format": "parquet", "s3_account_id": "123456789012"}
    told = (await add(caller, dataset(bucket, params=params)))["notifications"]
    [allow, _] = json.loads(cloud.attributes(told["queueArn"])["Policy"])["Statement"]
    assert allow["Condition"]["StringEquals"] == {"aws:SourceAccount": "123456789012"}


async def test_the_queue_lies_in_the_region_of_the_bucket(caller: Any, bucket: str) -> None:
    params = {"file_format": "parquet", "s3_region": "eu-west-1"}
    told = (await add(caller, dataset(bucket, params=params)))["notifications"]
    assert told["region"] == "eu-west-1"
    assert ":eu-west-1:" in told["queueArn"]


async def test_a_dataset_without_notifications_says_nothing_of_them(caller: Any, bucket: str) -> None:
    answer = await add(caller, dataset(bucket, notifications=False))
    assert "notifications" not in answer
    assert "notificationsInfo" not in answer["dataset"]
    status = await counted(caller)
    assert status["notifications"] is False
    assert not any(field.startswith("s3") for field in status)


async def test_what_was_read_can_be_sent_back(caller: Any, bucket: str) -> None:
    told = (await add(caller, dataset(bucket)))["notifications"]
    shown = (await caller.http.get("/datasets/sales")).json()
    assert (await put(caller, shown))["notifications"] == told


async def test_a_try_makes_no_queue(caller: Any, cloud: Cloud, bucket: str) -> None:
    before = cloud.queues()
    answer = await caller.http.post("/datasets?validateOnly=true", json=dataset(bucket))
    assert answer.status_code == 200
    assert "notifications" not in answer.json()
    assert cloud.queues() == before


async def test_notifications_that_come_back_have_the_same_queue(caller: Any, bucket: str) -> None:
    told = (await add(caller, dataset(bucket)))["notifications"]
    off = await put(caller, dataset(bucket, notifications=False))
    assert "notifications" not in off
    assert "notificationsInfo" not in (await caller.http.get("/datasets/sales")).json()
    assert names_of(told["queueArn"]) & await removals(caller)
    assert (await put(caller, dataset(bucket)))["notifications"] == told
    assert await removals(caller) == set()


async def test_a_patch_tells_the_queues_by_dataset(caller: Any, bucket: str) -> None:
    await add(caller, dataset(bucket, name="old"))
    body = {
        "addDatasets": [dataset(bucket, name="Sales"), dataset(bucket, name="quiet", notifications=False)],
        "updateDatasets": {"old": {"description": "as before"}},
    }
    answer = (await caller.http.patch("/config", json=body)).json()
    assert set(answer["notifications"]) == {"Sales", "old"}
    assert answer["notifications"]["Sales"]["instructions"] == INSTRUCTIONS
    again = (
        await caller.http.patch("/config", json={"updateDatasets": {"quiet": {"description": "x"}}})
    ).json()
    assert again["notifications"] == {}


async def test_a_dataset_that_is_removed_and_added_in_one_patch_keeps_its_queue(
    caller: Any, bucket: str
) -> None:
    told = (await add(caller, dataset(bucket)))["notifications"]
    patch = {"removeDatasets": ["sales"], "addDatasets": [dataset(bucket)]}
    answer = (await caller.http.patch("/config", json=patch)).json()
    assert answer["notifications"]["sales"]["queueArn"] == told["queueArn"]


async def test_a_removed_dataset_leaves_its_queue_for_a_day(
    caller: Any, cloud: Cloud, bucket: str, lake: Any
) -> None:
    told = (await add(caller, dataset(bucket)))["notifications"]
    assert (await caller.http.delete("/datasets/sales")).status_code == 200
    queues = Queues(cloud.url)
    try:
        await tidying.remove_queues_any(lake.database, queues)
        assert names_of(told["queueArn"]) <= cloud.queues()
        await forget_grace(caller)
        await tidying.remove_queues_any(lake.database, queues)
    finally:
        await queues.close()
    assert not names_of(told["queueArn"]) & cloud.queues()
    assert await removals(caller) == set()
    again = (await add(caller, dataset(bucket)))["notifications"]
    assert again["queueArn"] != told["queueArn"]


async def test_a_rollback_brings_the_queue_back(caller: Any, bucket: str) -> None:
    first = await add(caller, dataset(bucket))
    await put(caller, dataset(bucket, notifications=False))
    answer = await caller.http.post("/config/rollback", json={"version": first["version"]})
    assert answer.status_code == 200
    shown = (await caller.http.get("/datasets/sales")).json()
    assert shown["notificationsInfo"]["queueArn"] == first["notifications"]["queueArn"]


async def test_a_queue_service_that_fails_leaves_the_lake_as_it_was(
    caller: Any, lake: Any, bucket: str
) -> None:
    await add(caller, dataset(bucket, name="there", notifications=False))
    before = (await caller.http.get("/config")).json()
    settings = replace(lake.settings, aws_endpoint_url="http://127.0.0.1:9")
    async with served(create_app(settings)) as url, lake.caller(caller.tenant_id, url=url) as elsewhere:
        patch = {"addDatasets": [dataset(bucket)], "removeDatasets": ["there"]}
        for answer in (
            await elsewhere.http.post("/datasets", json=dataset(bucket)),
            await elsewhere.http.patch("/config", json=patch),
        ):
            assert answer.status_code == 502, answer.text
            assert answer.json()["code"] == "notification_provisioning_failed"
            assert "queue" in answer.json()["error"]
    assert (await caller.http.get("/config")).json() == before
    # What was written down for the queue that never came is looked after and goes.
    assert len(await removals(caller)) == 2


async def test_without_credentials_the_operator_is_told_what_to_set(
    caller: Any, lake: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    async with served(create_app(lake.settings)) as url, lake.caller(caller.tenant_id, url=url) as elsewhere:
        answer = await elsewhere.http.post("/datasets", json=dataset(bucket))
    assert answer.status_code == 502
    assert "AWS_ACCESS_KEY_ID" in answer.json()["error"]
    assert (await caller.http.get("/datasets")).json()["datasets"] == []


async def test_another_bucket_resets_the_counters_and_narrows_the_policy(
    caller: Any, cloud: Cloud, bucket: str, lake: Any
) -> None:
    told = (await add(caller, dataset(bucket)))["notifications"]
    cloud.connect(bucket, told["queueArn"])
    cloud.put(bucket, "data/a.parquet", 1)
    await eventually(lambda: _count_is(caller, 1), within=20)
    same = await put(caller, dataset(bucket, **{"from": f"s3://{bucket}/other/"}))
    assert same["notifications"] == told
    assert (await counted(caller))["s3EventCount"] == 1
    other = cloud.bucket()
    moved = await put(caller, dataset(other))
    assert moved["notifications"] == told
    status = await counted(caller)
    assert (status["s3EventCount"], status["s3LastEventAt"], status["s3LastRefreshAt"]) == (0, None, None)
    assert status["notificationsState"] == "pending"
    queues = Queues(cloud.url)
    try:
        await tidying.narrow_policies_any(lake.database, queues)
    finally:
        await queues.close()
    [allow, _] = json.loads(cloud.attributes(told["queueArn"])["Policy"])["Statement"]
    assert allow["Condition"]["ArnLike"] == {"aws:SourceArn": f"arn:aws:s3:::{other}"}
    # The bucket of before still sends, and is not heard.
    cloud.put(bucket, "data/b.parquet", 1)
    cloud.connect(other, told["queueArn"])
    cloud.put(other, "data/b.parquet", 1)
    await eventually(lambda: _count_is(caller, 1), within=20)
    assert cloud.depth(told["queueArn"]) == 0


async def test_a_queue_that_somebody_deleted_is_made_again(caller: Any, cloud: Cloud, bucket: str) -> None:
    told = (await add(caller, dataset(bucket)))["notifications"]
    cloud.connect(bucket, told["queueArn"])
    await eventually(lambda: _state_is(caller, "connected"), within=20)
    cloud.sqs.delete_queue(QueueUrl=cloud.queue_url(told["queueArn"]))

    async def is_back() -> bool:
        return names_of(told["queueArn"]) <= cloud.queues()

    await eventually(is_back, within=40)
    cloud.put(bucket, "data/a.parquet", 1)
    await eventually(lambda: _count_is(caller, 1), within=20)


async def _count_is(caller: Any, count: int) -> bool:
    return (await counted(caller))["s3EventCount"] == count


async def _state_is(caller: Any, state: str) -> bool:
    return (await counted(caller))["notificationsState"] == state
