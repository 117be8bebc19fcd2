"""S3: a client for each dataset, its own credentials, and messages without them."""

import io
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from .conftest import Lakes

BUCKET = "lake-data"
ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


class Bucket:
    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        arguments: dict[str, Any] = {
            "endpoint_url": endpoint,
            "region_name": "us-east-1",
            "aws_access_key_id": "root",
            "aws_secret_access_key": "root-secret",
        }
        self.s3 = boto3.client("s3", **arguments)
        self.iam = boto3.client("iam", **arguments)

    def put(self, key: str, body: bytes | pa.Table) -> None:
        if isinstance(body, pa.Table):
            sink = io.BytesIO()
            pq.write_table(body, sink)
            body = sink.getvalue()
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)

    def dataset(self, name: str, key: str, form: str = "parquet", **options: Any) -> dict[str, Any]:
        location = f"s3://{BUCKET}/{key}"
        common = {"endpoint": self.endpoint, "allow_http": "true", "auth": "key"}
        keys = {"access_key_id": "root", "secret_access_key": "root-secret"}
        return {
            "name": name,
            "connector": "s3",
            "from": location,
            "format": form,
            "location": location,
            "options": {**common, **keys, **options},
        }

    def user(self, name: str, policy: dict[str, Any] | None) -> tuple[str, str]:
        self.iam.create_user(UserName=name)
        if policy is not None:
            self.iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(policy))
        key = self.iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def check_signatures(self, after: str) -> None:
        request = urllib.request.Request(
            f"{self.endpoint}/moto-api/reset-auth",
            data=after.encode(),
            method="POST",
            headers={"content-type": "text/plain"},
        )
        urllib.request.urlopen(request).close()


@pytest.fixture
def bucket(endpoint: str) -> Iterator[Bucket]:
    bucket = Bucket(endpoint)
    bucket.s3.create_bucket(Bucket=BUCKET)
    yield bucket
    bucket.check_signatures("1000000")
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")).close()


async def test_a_prefix_is_a_table_and_a_new_object_is_seen_by_the_next_query(
    lakes: Lakes, bucket: Bucket
) -> None:
    bucket.put("p/a.parquet", pa.table({"a": [1, 2]}))
    bucket.put("p/readme.txt", b"no table")
    lake = await lakes.start()
    await lake.configure(bucket.dataset("t", "p/"))
    assert await lake.rows("select sum(a) as s from t", useCache=False) == [{"s": 3}]
    bucket.put("p/b.parquet", pa.table({"a": [10]}))
    assert await lake.rows("select sum(a) as s from t", useCache=False) == [{"s": 13}]
    bucket.s3.delete_object(Bucket=BUCKET, Key="p/a.parquet")
    assert await lake.rows("select sum(a) as s from t", useCache=False) == [{"s": 10}]


async def test_one_object_a_folder_without_slash_and_odd_keys_are_tables(
    lakes: Lakes, bucket: Bucket
) -> None:
    bucket.put("one.csv", b"a\n1\n")
    bucket.put("dir.v1/x.csv", b"a\n2\n")
    bucket.put("a b+c%20/ü?#[1].csv", b"a\n3\n")
    lake = await lakes.start()
    await lake.configure(
        bucket.dataset("one", "one.csv", "csv"),
        bucket.dataset("dir", "dir.v1", "csv"),
        bucket.dataset("odd", "a b+c%20/", "csv"),
        bucket.dataset("odd_object", "a b+c%20/ü?#[1].csv", "csv"),
    )
    for name, value in (("one", 1), ("dir", 2), ("odd", 3), ("odd_object", 3)):
        assert await lake.rows(f"select a from {name}") == [{"a": value}], name


async def test_hive_prefixes_are_columns(lakes: Lakes, bucket: Bucket) -> None:
    bucket.put("h/year=2024/a.parquet", pa.table({"a": [1]}))
    bucket.put("h/year=2025/a.parquet", pa.table({"a": [2]}))
    lake = await lakes.start()
    await lake.configure(bucket.dataset("t", "h/", hive_partitioning_enabled=True))
    assert await lake.rows("select a, year from t where year = '2025'") == [{"a": 2, "year": "2025"}]


async def test_two_datasets_read_one_bucket_with_two_credentials(lakes: Lakes, bucket: Bucket) -> None:
    bucket.put("p/a.parquet", pa.table({"a": [1]}))
    good = bucket.user("may-read", ALLOW_ALL)
    bad = bucket.user("may-not", None)
    bucket.check_signatures("0")
    lake = await lakes.start()
    await lake.configure(
        bucket.dataset("good", "p/", access_key_id=good[0], secret_access_key=good[1]),
        bucket.dataset("bad", "p/", access_key_id=bad[0], secret_access_key=bad[1]),
        bucket.dataset("forged", "p/", access_key_id=good[0], secret_access_key="not-the-secret-of-it"),
        bucket.dataset("public", "p/", auth="public"),
    )
    assert await lake.rows("select a from good") == [{"a": 1}]
    for name in ("bad", "forged", "public"):
        status, body = await lake.sql(f"select a from {name}")
        assert (status, body["code"], body["dataset"]) == (502, "source_error", name), body
        for secret in (*good, *bad, "not-the-secret-of-it"):
            assert secret not in str(body)
            assert secret not in str(await lake.status())


async def test_a_source_that_breaks_while_it_is_read_is_502_and_named(lakes: Lakes, bucket: Bucket) -> None:
    bucket.put("p/a.parquet", pa.table({"a": [1]}))
    bucket.put("q/a.parquet", pa.table({"a": [1]}))
    lake = await lakes.start()
    await lake.configure(bucket.dataset("breaks", "p/"), bucket.dataset("whole", "q/"))
    assert await lake.rows("select b.a from breaks b join whole w on b.a = w.a") == [{"a": 1}]
    bucket.put("p/a.parquet", b"no longer a parquet file, but as long as one needs to be")
    status, body = await lake.sql("select b.a from breaks b join whole w on b.a = w.a")
    assert (status, body["code"]) == (502, "source_error"), body
    assert "breaks" in body["dataset"]
    assert await lake.rows("select a from whole") == [{"a": 1}]


async def test_an_endpoint_that_is_dead_or_a_bucket_that_is_missing_is_its_datasets_error(
    lakes: Lakes, bucket: Bucket
) -> None:
    lake = await lakes.start()
    dead = bucket.dataset("dead", "p/", endpoint="http://127.0.0.1:9")
    missing = bucket.dataset("missing", "p/") | {"location": "s3://no-such-bucket/p/"}
    empty = bucket.dataset("empty", "nothing/here/")
    bucket.put("p/a.csv", b"a\n1\n")
    await lake.configure(dead, missing, empty, bucket.dataset("other", "p/"))
    tables = await lake.tables()
    assert "did not answer" in tables["dead"]["error"]["message"]
    assert "NoSuchBucket" in tables["missing"]["error"]["message"]
    assert "nothing was found" in tables["empty"]["error"]["message"]
    assert "no .parquet file" in tables["other"]["error"]["message"]
    assert "found: .csv (1)" in tables["other"]["error"]["message"]


async def test_a_query_waits_for_the_dataset_it_names_and_for_no_other(lakes: Lakes, bucket: Bucket) -> None:
    bucket.put("p/a.parquet", pa.table({"a": [1]}))
    lake = await lakes.start()
    dead = bucket.dataset("dead", "p/", endpoint="http://127.0.0.1:9")
    await lake.configure(dead, bucket.dataset("t", "p/"))
    assert await lake.rows("select a from t", seconds=5) == [{"a": 1}]
    assert (await lake.status())["datasets"]["dead"]["status"] == "initializing"


@pytest.mark.parametrize(
    "endpoint",
    ["http://127.0.0.1:1", "http://169.254.169.254", "http://[::1]:1", "http://localhost", "http://10.0.0.1"],
)
async def test_a_private_endpoint_is_refused_unless_it_is_allowed(lakes: Lakes, endpoint: str) -> None:
    lake = await lakes.start(allowPrivate=False)
    options = {"endpoint": endpoint, "allow_http": "true"}
    location = "s3://b/p/"
    spec = {"name": "t", "connector": "s3", "from": location, "format": "csv", "location": location}
    await lake.configure(spec | {"options": options})
    status, body = await lake.sql("select * from t")
    assert status == 502
    assert "is not a public address" in body["error"]


async def test_a_dataset_without_its_keys_does_not_ask_the_machine_for_some(
    lakes: Lakes, bucket: Bucket
) -> None:
    lake = await lakes.start()
    await lake.configure(bucket.dataset("t", "p/", access_key_id="", secret_access_key=""))
    status, body = await lake.sql("select * from t")
    assert status == 502
    assert "needs access_key_id and secret_access_key" in body["error"]
