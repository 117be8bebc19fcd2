"""Iceberg tables by their metadata file, under the import root and in S3."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO, _pyarrow_to_schema_without_ids
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import assign_fresh_schema_ids
from pyiceberg.serializers import ToOutputFile
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.table.update import update_table_metadata

from .conftest import Lakes

ROWS = pa.table(
    {
        "a": pa.array([1, 2, 3], pa.int64()),
        "b": ["x", "it's", None],
        "n": pa.array([Decimal("1.50"), Decimal("2.50"), None], pa.decimal128(9, 2)),
        "f": [0.5, 1e-7, None],
        "d": [date(2024, 1, day) for day in (1, 2, 3)],
        "z": pa.array([datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3)], pa.timestamp("us", "UTC")),
        "ok": [True, False, None],
    }
)


class OneTable(NoopCatalog):
    """The least of a catalog: the newest metadata of one table."""

    metadata_path = ""

    def commit_table(self, table: Table, requirements: Any, updates: Any) -> CommitTableResponse:
        metadata = update_table_metadata(table.metadata, updates)
        self.metadata_path = f"{metadata.location}/metadata/v{len(metadata.snapshots)}.metadata.json"
        ToOutputFile.table_metadata(metadata, table.io.new_output(self.metadata_path), overwrite=True)
        return CommitTableResponse(metadata=metadata, metadata_location=self.metadata_path)


def write_iceberg(location: str, *parts: pa.Table, **properties: str) -> str:
    """Write a table, a data file a part; the path of its metadata."""
    catalog, io = OneTable("one"), PyArrowFileIO(properties)
    schema = assign_fresh_schema_ids(_pyarrow_to_schema_without_ids(parts[0].schema))
    metadata = new_table_metadata(schema, UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, location)
    table = Table(("t",), metadata, f"{location}/metadata/v0.metadata.json", io, catalog)
    for part in parts:
        table.append(part)
    return catalog.metadata_path


def dataset(name: str, location: Path | str, **options: Any) -> dict[str, Any]:
    return {"name": name, "connector": "iceberg", "location": str(location), "options": options}


async def test_a_local_table_is_read_and_filtered(lakes: Lakes) -> None:
    path = write_iceberg(str(lakes.imports / "i"), ROWS, ROWS.slice(0, 1))
    lake = await lakes.start()
    await lake.configure(dataset("t", path))
    assert await lake.rows("select count(*) as n from t") == [{"n": 4}]
    for condition, found in (
        ("a > 1", [2, 3]),
        ("a in (1, 2, 5, 6, 7) and b = 'it''s'", [2]),
        ("n = 1.5", [1, 1]),
        ("f < 0.1", [2]),
        ("d >= '2024-01-02'", [2, 3]),
        ("z >= '2024-01-02T00:00:00Z' and b is null", [3]),
        ("ok", [1, 1]),
        ("not ok or a = 3", [2, 3]),
        ("b like 'x%' or n = 2.5", [1, 1, 2]),
        ("a % 2 = 0", [2]),
    ):
        rows = await lake.rows(f"select a from t where {condition} order by a")
        assert [row["a"] for row in rows] == found, condition
        assert await lake.rows(f"select count(*) as n from t where {condition}") == [{"n": len(found)}]


async def test_a_table_reaches_no_file_outside_the_import_root(lakes: Lakes, tmp_path: Path) -> None:
    outside = write_iceberg(str(tmp_path / "outside"), ROWS)
    inside = lakes.file("in.metadata.json", Path(outside).read_bytes())
    metadata = json.loads(Path(write_iceberg(str(lakes.imports / "i"), ROWS)).read_text())
    metadata["properties"] = {"py-io-impl": "os.system", "s3.endpoint": "http://127.0.0.1:1"}
    ignoring = lakes.file("ignoring.metadata.json", json.dumps(metadata))
    lake = await lakes.start()
    await lake.configure(
        dataset("outside", outside),
        dataset("pointing", inside),
        dataset("ignoring", ignoring),
        dataset("missing", lakes.imports / "none.metadata.json"),
        dataset("broken", lakes.file("broken.metadata.json", "{}")),
        dataset("private", "s3://b/x.metadata.json", s3_endpoint="http://127.0.0.1:1"),
    )
    assert await lake.rows("select count(*) as n from ignoring") == [{"n": 3}]
    status, body = await lake.sql("select * from pointing")
    assert (status, body["dataset"]) == (502, "pointing")
    assert "path_not_allowed" in body["error"]
    tables = await lake.tables()
    assert "path_not_allowed" in tables["outside"]["error"]["message"]
    assert "no file was found" in tables["missing"]["error"]["message"]
    assert "allow_http" in tables["private"]["error"]["message"]
    assert tables["broken"]["status"] == "error"


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


async def test_a_table_in_s3_is_read_with_its_own_keys(lakes: Lakes, endpoint: str) -> None:
    keys = {"aws_access_key_id": "root", "aws_secret_access_key": "root-secret"}
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).create_bucket(Bucket="lake")
    properties = {"s3.endpoint": endpoint, "s3.access-key-id": "root", "s3.secret-access-key": "root-secret"}
    path = write_iceberg("s3://lake/i", ROWS, **properties, **{"s3.region": "us-east-1"})
    options = {"s3_endpoint": endpoint, "allow_http": "true", "s3_access_key_id": "root"}
    lake = await lakes.start()
    await lake.configure(
        dataset("t", path, **options, s3_secret_access_key="root-secret"),
        dataset("missing", "s3://lake/none.metadata.json", **options, s3_secret_access_key="root-secret"),
    )
    assert await lake.rows("select a from t where d = '2024-01-02'") == [{"a": 2}]
    tables = await lake.tables()
    assert tables["missing"]["status"] == "error"
    assert "root-secret" not in str(tables)


async def test_a_limit_reads_no_more_files_than_it_needs(lakes: Lakes) -> None:
    path = write_iceberg(str(lakes.imports / "i"), ROWS, ROWS)
    files = sorted((lakes.imports / "i" / "data").glob("*.parquet"))
    assert len(files) == 2
    lake = await lakes.start()
    await lake.configure(dataset("t", path))
    assert len(await lake.rows("select b, a from t limit 4")) == 4
    assert len(await lake.rows("select a from t limit 2 offset 5")) == 1
    assert list((await lake.rows("select b, a from t limit 1"))[0]) == ["b", "a"]
    assert await lake.rows("select a from t where a > 2 limit 5") == [{"a": 3}, {"a": 3}]
    assert len(await lake.rows("select * from t", maxRows=3)) == 3
    # The file that is read first is enough for two rows; without the other nothing more can be read.
    for file, spare in ((files[0], files[1]), (files[1], files[0])):
        kept = spare.read_bytes()
        spare.unlink()
        status, _ = await lake.sql("select a from t limit 2", useCache=False)
        spare.write_bytes(kept)
        if status == 200:
            spare.unlink()
            assert (await lake.sql("select a from t limit 5", useCache=False))[0] == 502
            return
        assert file
    raise AssertionError("both files were read")
