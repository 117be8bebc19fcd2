"""Files under the import root become tables; nothing outside it does."""

import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from .conftest import Lakes, dataset


def parquet(**columns: list[Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def arrow(**columns: list[Any]) -> bytes:
    sink = io.BytesIO()
    table = pa.table(columns)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def avro() -> bytes:
    """The rows (1, x), (2, yz) by the object container format of the Avro specification."""
    schema = (
        b'{"type":"record","name":"r","fields":[{"name":"a","type":"long"},{"name":"b","type":"string"}]}'
    )
    sync = b"s" * 16
    header = b"Obj\x01" + b"\x02" + b"\x16avro.schema" + varint(len(schema)) + schema + b"\x00" + sync
    rows = varint(1) + varint(1) + b"x" + varint(2) + varint(2) + b"yz"
    return header + varint(2) + varint(len(rows)) + rows + sync


def varint(number: int) -> bytes:
    number <<= 1
    pieces = []
    while number > 127:
        pieces.append(number & 127 | 128)
        number >>= 7
    return bytes([*pieces, number])


AVRO = avro()


@pytest.mark.parametrize(
    ("name", "form", "content", "options", "rows"),
    [
        (
            "a.parquet",
            "parquet",
            parquet(a=[1, 2], b=["x", None]),
            {},
            [{"a": 1, "b": "x"}, {"a": 2, "b": None}],
        ),
        ("a.csv", "csv", "a,b\n1,x\n", {}, [{"a": 1, "b": "x"}]),
        ("a.tsv", "tsv", "a\tb\n1\tx\n", {}, [{"a": 1, "b": "x"}]),
        ("a.csv.gz", "csv", gzip.compress(b"a,b\n1,x\n"), {}, [{"a": 1, "b": "x"}]),
        ("a.dat", "csv", gzip.compress(b"a\n1\n"), {"file_compression_type": "gzip"}, [{"a": 1}]),
        ("a.json", "json", '{"a":1}\n{"a":2}\n', {}, [{"a": 1}, {"a": 2}]),
        ("a.ndjson", "json", '{"a":1}\n', {"json_format": "ndjson"}, [{"a": 1}]),
        ("a.json", "json", '[{"a":1},{"a":2}]', {"json_format": "array"}, [{"a": 1}, {"a": 2}]),
        ("a b'[1]*?.csv", "csv", "a\n1\n", {}, [{"a": 1}]),
        (
            "a.csv",
            "csv",
            "1;'x;y'\n2;'z'\n",
            {"csv_has_header": "false", "csv_delimiter": ";", "csv_quote": "'"},
            [{"column_1": 1, "column_2": "x;y"}, {"column_1": 2, "column_2": "z"}],
        ),
        ("a.arrow", "arrow", arrow(a=[1, 2], b=["x", None]), {}, [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
        ("a.avro", "avro", AVRO, {}, [{"a": 1, "b": "x"}, {"a": 2, "b": "yz"}]),
        ("a.csv", "csv", 'a\n"x\\"y"\n', {"csv_escape": "\\"}, [{"a": 'x"y'}]),
    ],
)
async def test_a_file_is_a_table(
    lakes: Lakes,
    name: str,
    form: str,
    content: str | bytes,
    options: dict[str, Any],
    rows: list[dict[str, Any]],
) -> None:
    lake = await lakes.start()
    await lake.configure(dataset("t", lakes.file(name, content), form, **options))
    assert await lake.rows("select * from t") == rows


async def test_a_folder_is_a_table_and_a_new_file_is_seen_by_the_next_query(lakes: Lakes) -> None:
    lake = await lakes.start()
    lakes.file("d/one.csv", "a\n1\n")
    lakes.file("d/notes.md", "not a table")
    await lake.configure(dataset("t", lakes.imports / "d"))
    assert await lake.rows("select sum(a) as s from t", useCache=False) == [{"s": 1}]
    second = lakes.file("d/two.csv", "a\n10\n")
    assert await lake.rows("select sum(a) as s from t", useCache=False) == [{"s": 11}]
    second.unlink()
    assert await lake.rows("select sum(a) as s from t", useCache=False) == [{"s": 1}]


async def test_hive_folders_are_columns_when_asked_for(lakes: Lakes) -> None:
    lake = await lakes.start()
    for year, month in ((2024, 1), (2025, 2)):
        lakes.file(f"h/year={year}/month={month}/x.parquet", parquet(a=[year]))
    folder = lakes.imports / "h"
    await lake.configure(
        dataset("with_parts", folder, "parquet", hive_partitioning_enabled="true"),
        dataset("without", folder, "parquet"),
    )
    rows = await lake.rows("select * from with_parts where year = '2025'")
    assert rows == [{"a": 2025, "year": "2025", "month": "2"}]
    assert await lake.rows("select count(*) as n from without") == [{"n": 2}]


async def test_a_format_that_matches_no_file_names_what_was_found(lakes: Lakes) -> None:
    lake = await lakes.start()
    lakes.file("d/a.csv", "a\n1\n")
    lakes.file("d/b.csv", "a\n1\n")
    (lakes.imports / "empty").mkdir()
    await lake.configure(
        dataset("t", lakes.imports / "d", "parquet"), dataset("e", lakes.imports / "empty", "parquet")
    )
    tables = await lake.tables()
    assert "no .parquet file was found" in tables["t"]["error"]["message"]
    assert "found: .csv (2)" in tables["t"]["error"]["message"]
    assert "nothing was found" in tables["e"]["error"]["message"]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    path.mkdir()
    (path / "secret.csv").write_text("a\nTOPSECRET\n")
    return path


@pytest.mark.parametrize(
    "spelling",
    [
        "{outside}/secret.csv",
        "{imports}/../outside/secret.csv",
        "{imports}/./../outside/secret.csv",
        "{imports}/link.csv",
        "{imports}/linked",
        "{imports}/linked/secret.csv",
        "{imports}/holds_a_link",
        "file://{outside}/secret.csv",
        "file:{outside}/secret.csv",
        "{imports}/%2e%2e/outside/secret.csv",
        "../outside/secret.csv",
        "{imports}\0/../outside/secret.csv",
        "/etc/passwd",
        "/proc/self/environ",
        "//{outside}/secret.csv",
        "{imports}-sibling/secret.csv",
        "",
    ],
)
async def test_no_path_leads_out_of_the_import_root(lakes: Lakes, outside: Path, spelling: str) -> None:
    (lakes.imports / "link.csv").symlink_to(outside / "secret.csv")
    (lakes.imports / "linked").symlink_to(outside)
    (lakes.imports / "holds_a_link" / "deep").mkdir(parents=True)
    (lakes.imports / "holds_a_link" / "deep" / "x.csv").symlink_to(outside / "secret.csv")
    sibling = lakes.imports.with_name(lakes.imports.name + "-sibling")
    sibling.mkdir()
    (sibling / "secret.csv").write_text("a\nTOPSECRET\n")
    lake = await lakes.start()
    await lake.configure(dataset("t", spelling.format(outside=outside, imports=lakes.imports)))
    status, body = await lake.sql("select * from t")
    assert (status, body["code"]) == (502, "source_error")
    assert "TOPSECRET" not in str(body)
    assert "path_not_allowed" in body["error"] or "nothing was found" in body["error"]


async def test_a_link_that_stays_inside_and_an_extra_root_are_allowed(lakes: Lakes, outside: Path) -> None:
    target = lakes.file("real.csv", "a\n1\n")
    (lakes.imports / "inner.csv").symlink_to(target)
    lake = await lakes.start()
    await lake.configure(
        dataset("inner", lakes.imports / "inner.csv"),
        dataset("uploaded", outside / "secret.csv") | {"roots": [str(outside)]},
    )
    assert await lake.rows("select * from inner") == [{"a": 1}]
    assert await lake.rows("select * from uploaded") == [{"a": "TOPSECRET"}]


async def test_a_file_named_in_a_statement_is_no_table(lakes: Lakes) -> None:
    path = lakes.file("x.csv", "a\n1\n")
    lake = await lakes.start()
    await lake.configure()
    for name in (str(path), f"file://{path}", "/etc/passwd"):
        status, body = await lake.sql(f"select * from '{name}'")
        assert (status, body["code"]) == (400, "sql_error")
