"""Datasets in S3: the reference's own example, keys, folders, and buckets that are not there."""

import io
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.context_lake.conftest import s3 as dataset_of_the_reference

ROWS = [{"id": 1, "name": "Alice"}, {"id": 2, "name": "Chloé"}]


@pytest.fixture
def bucket(moto_url: str) -> Any:
    """A bucket with the reference's object and a folder of two."""
    client = boto3.client(
        "s3",
        endpoint_url=moto_url,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    client.create_bucket(Bucket="bucket")
    for key, rows in (
        ("path/data.parquet", ROWS),
        ("folder/a.parquet", ROWS[:1]),
        ("folder/b.parquet", ROWS[1:]),
    ):
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), buffer)
        client.put_object(Bucket="bucket", Key=key, Body=buffer.getvalue(), ACL="public-read")
    yield client
    for item in client.list_objects_v2(Bucket="bucket").get("Contents", []):
        client.delete_object(Bucket="bucket", Key=item["Key"])
    client.delete_bucket(Bucket="bucket")


async def test_the_dataset_of_the_reference_is_queried(caller: Any, bucket: Any) -> None:
    body = dataset_of_the_reference(path="bucket/path/data.parquet")
    assert (await caller.http.post("/datasets", json=body)).status_code == 201
    assert await caller.rows("select * from sales order by id") == ROWS


async def test_a_folder_with_an_endpoint_of_its_own_is_one_table(
    caller: Any, bucket: Any, moto_url: str
) -> None:
    params = {
        "s3_auth": "key",
        "s3_key": "k",
        "s3_secret": "s",
        "s3_endpoint": moto_url,
        "allow_http": True,
        "file_format": "parquet",
    }
    await caller.add("people", "s3://bucket/folder/", params=params)
    assert await caller.rows("select * from people order by id") == ROWS


async def test_a_public_object_needs_no_key_and_a_missing_bucket_is_its_own_trouble(
    caller: Any, bucket: Any
) -> None:
    await caller.add("there", "s3://bucket/path/data.parquet")
    await caller.add("absent", "s3://no-such-bucket/path/data.parquet")
    assert len(await caller.rows("select * from there")) == 2
    failed = await caller.sql("select * from absent")
    assert (failed.status_code, failed.json()["code"]) == (502, "source_error")


async def test_a_changed_secret_is_used_at_once(caller: Any, bucket: Any) -> None:
    body = dataset_of_the_reference()
    await caller.http.post("/datasets", json=body)
    await caller.rows("select * from sales")
    body["params"] |= {"s3_secret": "another"}
    assert (await caller.http.put("/datasets/sales", json=body)).status_code == 200
    assert len(await caller.rows("select * from sales")) == 2
