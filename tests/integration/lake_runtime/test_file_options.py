"""What may be said of files besides their format: compression, arrays, folders as columns, an example, columns of the file."""

import asyncio
import bz2
import gzip
import json
import lzma
import os
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from .conftest import Lakes, dataset
from .test_clouds import Cloud, cloud  # noqa: F401 - a fixture
from .test_clouds import dataset as stored
from .test_files import arrow, parquet
from .test_s3 import Bucket, bucket, endpoint  # noqa: F401 - fixtures


def zstd(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


PACKED = {
    "none": ("", bytes),
    "gzip": (".gz", gzip.compress),
    "bzip2": (".bz2", bz2.compress),
    "xz": (".xz", lzma.compress),
    "zstd": (".zst", zstd),
}
TEXTS = {
    "csv": (".csv", b"a,b\n1,x\n2,y\n", {}),
    "tsv": (".tsv", b"a\tb\n1\tx\n2\ty\n", {}),
    "json": (".json", b'{"a":1,"b":"x"}\n{"a":2,"b":"y"}\n', {}),
    "array": (".json", b'[{"a":1,"b":"x"},\n{"a":2,"b":"y"}]', {"json_format": "array"}),
}


@pytest.mark.parametrize("form", TEXTS)
async def test_every_compression_of_every_text_is_read(lakes: Lakes, form: str) -> None:
    ending, content, options = TEXTS[form]
    kind = "json" if form == "array" else form
    datasets: list[dict[str, Any]] = []
    for compression, (suffix, pack) in PACKED.items():
        one = lakes.file(f"{form}_{compression}{ending}{suffix}", pack(content))
        said = lakes.file(f"{form}_{compression}.dat", pack(content))
        lakes.file(f"{form}_{compression}/x{ending}{suffix}", pack(content))
        lakes.file(f"{form}_{compression}/readme.md", "no")
        folder = lakes.imports / f"{form}_{compression}"
        datasets += [
            dataset(f"by_name_{compression}", one, kind, **options),
            dataset(f"as_said_{compression}", said, kind, file_compression_type=compression, **options),
            dataset(f"folder_{compression}", folder, kind, file_compression_type=compression, **options),
            dataset(f"guessed_{compression}", folder, kind, **options),
        ]
    lake = await lakes.start()
    await lake.configure(*datasets)
    for wanted in datasets:
        rows = await lake.rows(f"select * from {wanted['name']} order by a")
        assert rows == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], wanted["name"]


async def test_arrays_have_folders_as_columns_and_an_extension(lakes: Lakes) -> None:
    for year in (2024, 2025):
        lakes.file(f"j/year={year}/one.rows.json.gz", gzip.compress(json.dumps([{"a": year}]).encode()))
        lakes.file(f"j/year={year}/one.other.json.gz", gzip.compress(json.dumps([{"a": -1}]).encode()))
    folder = lakes.imports / "j"
    options = {"json_format": "array", "file_compression_type": "gzip"}
    lake = await lakes.start()
    await lake.configure(
        dataset(
            "t", folder, "json", **options, file_extension=".rows.json.gz", hive_partitioning_enabled="true"
        ),
        dataset("plain", folder, "json", **options),
        dataset("odd", folder, "json", **options, file_extension=".gz"),
    )
    assert await lake.rows("select * from t where year = '2025'") == [{"a": 2025, "year": "2025"}]
    assert await lake.rows("select count(*) as n from t") == [{"n": 2}]
    assert await lake.rows("select * from plain where a > 2024") == [{"a": 2025}]
    lakes.file("j/year=2026/two.rows.json.gz", gzip.compress(b'[{"a": 2026}]'))
    assert await lake.rows("select max(a) as m, max(year) as y from t", useCache=False) == [
        {"m": 2026, "y": "2026"}
    ]
    tables = await lake.tables()
    assert {c["name"]: c["type"] for c in tables["t"]["columns"]} == {"a": "int64", "year": "string"}
    assert "must end in .json.gz" in tables["odd"]["error"]["message"]


@pytest.mark.parametrize("connector", ["gcs", "abfs"])
async def test_folders_of_a_cloud_are_columns(lakes: Lakes, cloud: Cloud, connector: str) -> None:  # noqa: F811
    cloud.objects = {
        "p/year=2024/m=1/a.csv": b"a\n1\n",
        "p/year=2025/m=2/b.csv": b"a\n2\n",
        "p/notes.txt": b"no",
    }
    common = {"allow_http": "true", "hive_partitioning_enabled": "true"}
    url = {"gcs": "gs://bkt/p/", "abfs": "abfs://c/p"}[connector]
    place = (
        {"gcs_endpoint": cloud.url}
        if connector == "gcs"
        else {"abfs_endpoint": cloud.url, "abfs_account": "acc"}
    )
    lake = await lakes.start()
    empty = stored("empty", connector, url.replace("/p", "/q"), **common, **place)
    await lake.configure(stored("t", connector, url, **common, **place), empty)
    assert await lake.rows("select * from t where year = '2025'") == [{"a": 2, "year": "2025", "m": "2"}]
    cloud.objects["p/year=2026/m=3/c.csv"] = b"a\n3\n"
    assert await lake.rows("select max(year) as y, count(*) as n from t", useCache=False) == [
        {"y": "2026", "n": 3}
    ]
    assert "nothing was found" in (await lake.tables())["empty"]["error"]["message"]


async def test_an_example_alone_tells_the_columns(lakes: Lakes) -> None:
    formats = {
        "parquet": (parquet(a=[1], b=["x"]), parquet(a=[2], c=[1.5])),
        "arrow": (arrow(a=[1], b=["x"]), arrow(a=[2], c=[1.5])),
        "csv": (b"a,b\n1,x\n", b"a,b\nnine,y\n"),
        "json": (b'{"a":1,"b":"x"}\n', b'{"a":2,"c":1.5}\n'),
    }
    datasets = []
    for form, (first, second) in formats.items():
        lakes.file(f"{form}/y=1/zz.{form}", first)
        lakes.file(f"{form}/y=1/aa.{form}", second)
        folder = lakes.imports / form
        example = {"schema_source_path": f"y=1/zz.{form}", "hive_partitioning_enabled": "true"}
        datasets += [
            dataset(form, folder, form, **example),
            dataset(f"{form}_none", folder, form, schema_source_path="no.csv"),
        ]
    datasets += [
        dataset("outside", lakes.imports / "csv", "csv", schema_source_path="../json/y=1/zz.json"),
        dataset("a_folder", lakes.imports / "json", "json", schema_source_path="y=1"),
    ]
    lake = await lakes.start()
    await lake.configure(*datasets)
    tables = await lake.tables()
    for form in formats:
        columns = {c["name"]: c["type"] for c in tables[form]["columns"]}
        assert columns == {"a": "int64", "b": "string", "y": "string"}, form
        assert tables[f"{form}_none"]["status"] == "error", form
    for form in ("parquet", "json"):
        assert await lake.rows(f"select a, b from {form} order by a") == [
            {"a": 1, "b": "x"},
            {"a": 2, "b": None},
        ], form
    assert "under from" in tables["outside"]["error"]["message"]
    assert {c["name"] for c in tables["a_folder"]["columns"]} == {"a", "b", "c"}


ALL = ["_location", "_last_modified", "_size"]


async def test_one_file_that_is_dealt_out_to_threads_tells_its_name(lakes: Lakes) -> None:
    rows = "".join(f"{n}\n" for n in range(100_000))
    path = lakes.file("one.csv", f"a\n{rows}")
    lake = await lakes.start(partitions=2)
    await lake.configure(
        dataset("t", path, file_columns=ALL) | {"from": "file:one.csv"},
        views=[{"name": "v", "sql": "select a % 3 as k, _size from t"}],
    )
    size = path.stat().st_size
    assert await lake.rows("select _size, count(*) as n, max(a) as m from t group by _size") == [
        {"_size": size, "n": 100_000, "m": 99_999}
    ]
    assert await lake.rows("select k, max(_size) as s from v group by k order by k limit 1") == [
        {"k": 0, "s": size}
    ]
    assert await lake.rows("select count(*) as n from t x join t y on x.a = y.a where y._size > 5") == [
        {"n": 100_000}
    ]


@pytest.mark.parametrize(
    ("form", "content"),
    [("csv", b"a\n1\n"), ("json", b'{"a":1}\n'), ("parquet", parquet(a=[1])), ("arrow", arrow(a=[1]))],
)
async def test_a_row_tells_its_file(lakes: Lakes, form: str, content: bytes) -> None:
    one = lakes.file(f"d/x 1.{form}", content)
    two = lakes.file(f"d/y.{form}", content)
    os.utime(one, (1_700_000_000, 1_700_000_000))
    os.utime(two, (1_700_000_100.25, 1_700_000_100.25))
    lake = await lakes.start()
    folder = dataset("t", lakes.imports / "d", form, file_columns=ALL) | {"from": "file:d"}
    await lake.configure(
        folder,
        dataset("one", one, form, file_columns=["_size", "_location"]) | {"from": "file:d/x 1." + form},
    )
    assert await lake.rows("select * from t order by _location") == [
        {
            "a": 1,
            "_location": f"file:d/x 1.{form}",
            "_last_modified": "2023-11-14T22:13:20Z",
            "_size": len(content),
        },
        {
            "a": 1,
            "_location": f"file:d/y.{form}",
            "_last_modified": "2023-11-14T22:15:00.250Z",
            "_size": len(content),
        },
    ]
    tables = await lake.tables()
    assert [(c["name"], c["type"]) for c in tables["t"]["columns"]][1:] == [
        ("_location", "string"),
        ("_last_modified", "timestamp[us, tz=UTC]"),
        ("_size", "uint64"),
    ]
    assert await lake.rows("select _location, _size from one where a = 1") == [
        {"_location": f"file:d/x 1.{form}", "_size": len(content)}
    ]
    found = await lake.rows(
        "select count(*) as n from t where _last_modified > '2023-11-14T22:14:00Z' and _location like '%y%'"
    )
    assert found == [{"n": 1}]
    # A file that is new, and one that has changed, are told by the next query.
    lakes.file(f"d/z.{form}", content)
    os.utime(one, (1_600_000_000, 1_600_000_000))
    rows = await lake.rows(
        "select min(_last_modified) as m, count(distinct _location) as n from t", useCache=False
    )
    assert rows == [{"m": "2020-09-13T12:26:40Z", "n": 3}]
    # What does not name them is planned as if they were not there.
    plan = str(await lake.rows("explain select sum(a) as s from t"))
    assert "input_file_name" not in plan
    assert "input_file_name" in str(await lake.rows("explain select _location from t"))


async def test_a_column_of_the_files_own_is_not_replaced(lakes: Lakes) -> None:
    path = lakes.file("own.csv", "_size,a\nlarge,1\n")
    lake = await lakes.start()
    await lake.configure(dataset("t", path, file_columns=["_size", "_location"]) | {"from": "file:own.csv"})
    assert await lake.rows("select * from t") == [{"_size": "large", "a": 1, "_location": "file:own.csv"}]


async def test_objects_tell_their_place_age_and_size(lakes: Lakes, cloud: Cloud, bucket: Bucket) -> None:  # noqa: F811
    cloud.objects = {"p/a.csv": b"a\n1\n", "p/b b.csv": b"a\n20\n"}
    bucket.put("o/a.csv", b"a\n1\n")
    bucket.put("o/b b.csv", b"a\n20\n")
    common = {"allow_http": "true", "file_columns": ALL}
    lake = await lakes.start()
    await lake.configure(
        stored("google", "gcs", "gs://bkt/p/", gcs_endpoint=cloud.url, **common) | {"from": "gs://bkt/p/"},
        stored("azure", "abfs", "abfs://c/p", abfs_endpoint=cloud.url, abfs_account="acc", **common)
        | {"from": "abfs://c/p"},
        bucket.dataset("amazon", "o/", "csv", file_columns=ALL),
    )
    for name, place in (
        ("google", "gs://bkt/p"),
        ("azure", "abfs://c/p"),
        ("amazon", bucket.dataset("x", "o")["location"]),
    ):
        rows = await lake.rows(f"select a, _location, _size from {name} order by a")
        assert rows == [
            {"a": 1, "_location": f"{place}/a.csv", "_size": 4},
            {"a": 20, "_location": f"{place}/b b.csv", "_size": 5},
        ], name
    assert await lake.rows("select max(_last_modified) as m from google") == [{"m": "2024-01-02T03:04:05Z"}]
    (age,) = await lake.rows("select max(_last_modified) as m from amazon")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(age["m"])).total_seconds()) < 120


async def test_a_slow_request_is_made_again_after_the_clients_time(lakes: Lakes, cloud: Cloud) -> None:  # noqa: F811
    cloud.objects = {"p/a.csv": b"a\n1\n"}
    azure = {"abfs_endpoint": cloud.url, "abfs_account": "acc", "allow_http": "true"}
    s3 = {"endpoint": cloud.url, "allow_http": "true", "auth": "public"}
    lake = await lakes.start()
    await lake.configure(
        stored("azure", "abfs", "abfs://c/p/a.csv", **azure, client_timeout="300ms"),
        stored("amazon", "s3", "s3://c/p/a.csv", **s3, client_timeout="300ms"),
        stored("patient", "abfs", "abfs://c/p/a.csv", **azure),
    )
    await lake.tables()
    loop = asyncio.get_running_loop()
    for name, is_quick in (("azure", True), ("amazon", True), ("patient", False)):
        cloud.slow = [3.0]
        started = loop.time()
        assert await lake.rows(f"select a from {name}", useCache=False) == [{"a": 1}]
        assert (loop.time() - started < 2.5) is is_quick, name


async def test_a_download_ends_at_the_clients_time(lakes: Lakes, cloud: Cloud) -> None:  # noqa: F811
    cloud.objects = {"a.csv": b"a\n1\n"}
    lake = await lakes.start()
    cloud.slow = [5.0]
    await lake.configure(stored("t", "http", f"{cloud.url}/x/a.csv", client_timeout="1s"))
    loop = asyncio.get_running_loop()
    started = loop.time()
    status, answer = await lake.sql("select * from t")
    assert (status, answer["code"]) == (502, "source_error")
    assert "timed out" in answer["error"]
    assert loop.time() - started < 4
