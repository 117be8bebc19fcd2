"""Delta Lake tables: local ones under the import root, and ones in S3."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from moto.server import ThreadedMotoServer

from .conftest import Lakes

KEYS = {"aws_access_key_id": "root", "aws_secret_access_key": "root-secret"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def dataset(name: str, location: Path | str, **options: Any) -> dict[str, Any]:
    return {"name": name, "connector": "delta_lake", "location": str(location), "options": options}


async def test_a_folder_is_read_at_the_version_of_its_last_refresh(lakes: Lakes) -> None:
    folder = lakes.imports / "d"
    write_deltalake(folder, pa.table({"a": [1, 2, 3], "b": ["x", "y", None]}))
    lake = await lakes.start()
    await lake.configure(dataset("t", folder))
    assert await lake.rows("select * from t where a > 1 order by a") == [
        {"a": 2, "b": "y"},
        {"a": 3, "b": None},
    ]
    write_deltalake(folder, pa.table({"a": [10], "b": ["z"]}), mode="append")
    assert await lake.rows("select sum(a) as s from t") == [{"s": 6}]
    assert (await lake.request("POST", "/datasets/t/refresh"))[1]["ok"]
    assert await lake.rows("select sum(a) as s from t") == [{"s": 16}]


async def test_a_table_in_s3_is_read_with_its_own_keys(lakes: Lakes, endpoint: str) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="root",
        aws_secret_access_key="root-secret",
    )
    rows = pa.table(
        {
            "a": [1, 2, 3],
            "b": ["x", "y", None],
            "n": pa.array([Decimal("1.50"), Decimal("2.50"), None], pa.decimal128(9, 2)),
            "z": pa.array(
                [datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3)], pa.timestamp("us", "UTC")
            ),
        }
    )
    s3.create_bucket(Bucket="lake")
    options = {"aws_endpoint": endpoint, "aws_allow_http": "true", **KEYS}
    write_deltalake("s3://lake/d", rows, storage_options={**options, "aws_region": "us-east-1"})
    lake = await lakes.start()
    await lake.configure(
        dataset("t", "s3://lake/d", **options),
        dataset("missing", "s3://lake/nothing", **options),
        dataset("dead", "s3://lake/d", **{**options, "aws_endpoint": "http://127.0.0.1:1"}),
    )
    assert await lake.rows("select sum(a) as s from t") == [{"s": 6}]
    for condition, found in (
        ("a > 1 and b = 'y'", [2]),
        ("n = 1.5", [1]),
        ("z >= '2024-01-02T00:00:00Z' and b is null", [3]),
        ("b like 'x%' or n = 2.5", [1, 2]),
    ):
        rows_found = await lake.rows(f"select a from t where {condition} order by a")
        assert [row["a"] for row in rows_found] == found, condition
    tables = await lake.tables()
    assert "no Delta table was found at s3://lake/nothing" in tables["missing"]["error"]["message"]
    assert "did not answer" in tables["dead"]["error"]["message"]
    assert "root-secret" not in str(tables)


async def test_a_table_reaches_no_file_outside_the_import_root(lakes: Lakes, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write_deltalake(outside, pa.table({"a": ["out of reach"]}))
    file = next(outside.glob("*.parquet"))
    for name, path in (
        ("absolute", str(file)),
        ("url", file.as_uri()),
        ("dotted", f"../../outside/{file.name}"),
    ):
        folder = lakes.imports / name
        write_deltalake(folder, pa.table({"a": ["within"]}))
        log = folder / "_delta_log" / "00000000000000000000.json"
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        for line in lines:
            if "add" in line:
                line["add"]["path"] = path
        log.write_text("\n".join(json.dumps(line) for line in lines))
    lake = await lakes.start()
    await lake.configure(
        dataset("outside", outside),
        *(dataset(name, lakes.imports / name) for name in ("absolute", "url", "dotted")),
        dataset("private", "s3://lake/d", aws_endpoint="http://127.0.0.1:1", aws_allow_http="true"),
        dataset("empty", lakes.file("e/x.txt", "x").parent),
    )
    for name in ("absolute", "url", "dotted"):
        status, body = await lake.sql(f"select a from {name}")
        assert status == 502, (name, body)
        assert "out of reach" not in str(body)
    tables = await lake.tables()
    assert "path_not_allowed" in tables["outside"]["error"]["message"]
    assert "no Delta table" in tables["empty"]["error"]["message"]
