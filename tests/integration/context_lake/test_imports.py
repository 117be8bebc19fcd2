"""Files that are uploaded: a dataset at once, nobody else's, and nothing left of what was refused."""

import asyncio
import gzip
import io
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weir.context_lake import jobs
from weir.context_lake.uploads import collecting, storage
from weir.context_lake.uploads.storage import INCOMING, Uploads

SALES = b"id,name,price\n1,Alice,2.5\n2,Chlo\xc3\xa9,3\n"


async def send(
    caller: Any, file_name: str, content: bytes, *, headers: dict[str, str] | None = None, **fields: str
) -> httpx.Response:
    query = {name: fields.pop(name) for name in ("validateOnly",) if name in fields}
    return await caller.http.post(
        "/imports", files={"file": (file_name, content)}, data=fields, params=query, headers=headers
    )


def kept(lake: Any, tenant_id: str) -> list[str]:
    """Every file of a tenant on the disk, what is on its way included."""
    root = lake.settings.uploads / tenant_id
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


JSON_LINES = b'{"id": 1, "name": "Alice"}\n{"id": 2, "name": "Bob"}\n'
TABLE = pa.table({"id": [1, 2], "name": ["Alice", "Bob"]})


@pytest.mark.parametrize(
    ("file_name", "content"),
    [
        ("people.csv", b"id,name\n1,Alice\n2,Bob\n"),
        ("people.tsv", b"id\tname\n1\tAlice\n2\tBob\n"),
        ("people.parquet", parquet(TABLE)),
        ("people.jsonl", JSON_LINES),
        ("people.ndjson", JSON_LINES),
        ("people.json", JSON_LINES),
        ("people.json", b' [{"id": 1, "name": "Alice"},\n {"id": 2, "name": "Bob"}]'),
        ("people.csv", b"\xef\xbb\xbfid,name\r\n1,Alice\r\n2,Bob\r\n"),
    ],
)
async def test_a_file_of_every_format_is_a_table_at_once(caller: Any, file_name: str, content: bytes) -> None:
    answer = await send(caller, file_name, content)
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert [(column["name"], column["type"]) for column in body["columns"]] == [
        ("id", "int64"),
        ("name", "string"),
    ]
    assert (body["rowCount"], body["bytes"]) == (2, len(content))
    assert body["dataset"]["origin"] == "agent"
    assert answer.headers["location"] == "/v1/context-lake/datasets/people"
    assert await caller.rows("select * from people order by id") == [
        {"id": 1, "name": "Alice"},
        {"id": 2, "name": "Bob"},
    ]


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("sales-2024.csv", "sales_2024"),
        ("Sales 2024 (final).csv", "sales_2024_final"),
        ("2024.csv", "_2024"),
        ("C:\\data\\Übersicht.csv", "ubersicht"),
        ("../../etc/passwd.csv", "passwd"),
        ("table.csv", "table_"),
        ("a" * 200 + ".csv", "a" * 63),
    ],
)
async def test_a_table_has_the_name_of_its_file_made_fit(caller: Any, file_name: str, name: str) -> None:
    answer = await send(caller, file_name, SALES)
    assert answer.status_code == 201, answer.text
    assert answer.json()["dataset"]["name"] == name
    assert await caller.rows(f'select count(*) as n from "{name}"') == [{"n": 2}]


async def test_a_name_that_is_sent_wins_wherever_it_stands_in_the_form(caller: Any) -> None:
    boundary = "xyz"
    for order in ((0, 1), (1, 0)):
        name = f"t_{order[0]}"
        parts = [
            b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="x.csv"\r\n\r\n' + SALES,
            b'--xyz\r\nContent-Disposition: form-data; name="name"\r\n\r\n' + name.encode(),
        ]
        body = b"\r\n".join(parts[n] for n in order) + b"\r\n--xyz--\r\n"
        headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
        answer = await caller.http.post("/imports", content=body, headers=headers)
        assert answer.json()["dataset"]["name"] == name, answer.text


async def test_workspace_import_isolated(lake: Any, caller: Any, other: Any) -> None:
    """§11.1: nobody but its creator and the admins of the tenant sees an import, and no other tenant."""
    scopes = ("lake:read", "lake:write", "lake:query")
    async with lake.caller(caller.tenant_id, scopes, subject="one") as one:
        made = (await send(one, "mine.csv", SALES)).json()["dataset"]
        assert made["visibility"] == "private"
        assert len(await one.rows("select * from mine")) == 2
        async with lake.caller(caller.tenant_id, scopes, subject="two") as two:
            for stranger in (two, other):
                assert (await stranger.http.get("/datasets/mine")).status_code == 404
                assert "mine" not in (await stranger.http.get("/config")).text
                refused = await stranger.sql("select * from mine")
                assert (refused.status_code, refused.json()["code"]) == (400, "sql_error")
                # Who knows the file's name cannot make a dataset of it, in any way there is.
                body = {"name": "stolen", "from": made["from"]}
                for answer in (
                    await stranger.http.post("/datasets", json=body),
                    await stranger.http.patch("/config", json={"addDatasets": [body]}),
                ):
                    assert answer.status_code == 400, answer.text
                    assert answer.json()["errors"][0]["code"] == "import_not_found"
            own = await two.http.post("/datasets", json={"name": "own", "from": "https://example.org/a.csv"})
            assert own.status_code == 201
            forged = {"updateDatasets": {"own": {"from": made["from"], "params": {}}}}
            assert (await two.http.patch("/config", json=forged)).status_code == 400
            put = await two.http.put("/datasets/own", json={"from": made["from"]})
            assert put.status_code == 400
            # The name is taken all the same, and no `replace` takes it away.
            assert (await send(two, "mine.csv", SALES, replace="true")).status_code == 409
        assert len(await one.rows("select * from mine")) == 2


async def test_what_is_opened_to_others_is_seen_by_them(lake: Any, caller: Any) -> None:
    await send(caller, "ours.csv", SALES)
    patched = await caller.http.patch(
        "/config", json={"updateDatasets": {"ours": {"visibility": "shared", "description": "x"}}}
    )
    assert patched.status_code == 200, patched.text
    async with lake.caller(caller.tenant_id, ("lake:query",), subject="two") as two:
        assert len(await two.rows("select * from ours")) == 2


async def test_the_configuration_with_an_import_can_be_sent_back(caller: Any) -> None:
    await send(caller, "ours.csv", SALES)
    config = (await caller.http.get("/config")).json()
    [dataset] = config["spicepod"]["datasets"] if "spicepod" in config else config["config"]["datasets"]
    shown = (await caller.http.get("/datasets/ours")).json()
    assert (await caller.http.put("/datasets/ours", json=shown)).status_code == 200
    moved = {"removeDatasets": ["ours"], "addDatasets": [dataset | {"name": "theirs"}]}
    patched = await caller.http.patch("/config", json=moved)
    assert patched.status_code == 200, patched.text
    assert len(await caller.rows("select * from theirs")) == 2


HOSTILE_PATHS = [
    *(
        f"{'../' * depth}{target}"
        for depth in (1, 2, 5, 12)
        for target in ("etc/passwd", "x.csv", "keys/kek")
    ),
    *(f"%2e%2e/{target}" for target in ("x.csv", "etc/passwd")),
    *("/etc/passwd", "//etc/passwd", "/proc/self/environ", "file:///etc/passwd", "~/x.csv", "$HOME/x.csv"),
    *(
        "..",
        ".",
        "",
        "/",
        "\\",
        "..\\..\\x.csv",
        "C:\\x.csv",
        "incoming/{f}",
        "./{f}",
        "{t}/{f}",
        "../{t}/{f}",
    ),
    *("{f}/", "{f}/..", "{f}/../{f}", "{F}", "{f} ", " {f}", "{f}\n", "{f}\r", "{f}?x", "{f}#x", "{f};{f}"),
    *(
        "{f},{f}",
        "*.csv",
        "*",
        "[0-9a-f]*.csv",
        "{f}%00",
        "{f}.gz",
        "{f}.parquet",
        "x{f}",
        "{f}x",
        "０" * 32 + ".csv",
    ),
]


async def test_no_name_of_a_file_leaves_the_tenants_own_directory(caller: Any, other: Any) -> None:
    assert len(HOSTILE_PATHS) >= 50
    made = (await send(other, "theirs.csv", SALES)).json()["dataset"]["from"].removeprefix("import:")
    for path in HOSTILE_PATHS:
        named = path.replace("{f}", made).replace("{F}", made.upper()).replace("{t}", other.tenant_id)
        for from_ in (f"import:{named}", f"import://{named}"):
            answer = await caller.http.post("/datasets", json={"name": "x", "from": from_})
            assert answer.status_code == 400, from_
    assert (await caller.http.get("/datasets")).json()["datasets"] == []


async def test_an_operators_directory_above_the_uploads_opens_none_of_them(
    lake: Any, caller: Any, settings_of: Callable[..., Any]
) -> None:
    from tests.serving import served

    from weir.context_lake.app import create_app

    made = (await send(caller, "mine.csv", SALES)).json()["dataset"]["from"].removeprefix("import:")
    settings = settings_of(import_root=lake.settings.data_dir)
    async with served(create_app(settings)) as url, lake.caller(caller.tenant_id, url=url) as wide:
        folder = lake.settings.uploads / caller.tenant_id
        for path in (folder / made, folder, lake.settings.uploads, lake.settings.data_dir):
            body = {"name": "x", "from": f"file:{path}", "params": {"file_format": "csv"}}
            answer = await wide.http.post("/datasets", json=body)
            assert answer.status_code == 400, path
            assert answer.json()["errors"][0]["code"] == "path_not_allowed"


WHOLE = parquet(pa.table({"id": list(range(100_000))}), compression="zstd")
BROKEN = {
    "cut.parquet": parquet(TABLE)[:-20],
    "middle.parquet": WHOLE[:4] + b"\xff" * 30 + WHOLE[34:],
    "no.parquet": SALES,
    "secret.parquet": b"PARE" + b"\0" * 100 + b"PARE",
    "empty.csv": b"",
    "blank.csv": b" \n\n",
    "empty.parquet": b"",
    "empty.json": b"[]",
    "ragged.csv": b"a,b\n1,2\n3,4,5\n",
    "late.csv": b"a,b\n" + b"1,2\n" * 5000 + b"3,4,5\n",
    "twice.csv": b"a,a\n1,2\n",
    "packed.csv": gzip.compress(SALES),
    "zip.csv": b"PK\x03\x04" + b"\0" * 40,
    "binary.csv": b"a,b\n\0\0\0",
    "latin.csv": b"a,b\n1,caf\xe9\n",
    "utf16.csv": "a,b\n1,2\n".encode("utf-16"),
    "parquet.csv": parquet(TABLE),
    "scalar.json": b"42",
    "broken.jsonl": b'{"a": 1}\n{"a": \n',
    "array.jsonl": b'[{"a": 1}]',
    "book.xlsx": b"PK\x03\x04",
    "noending": SALES,
    "sales.csv.gz": gzip.compress(SALES),
}


@pytest.mark.parametrize("file_name", BROKEN)
async def test_a_file_that_makes_no_table_is_refused_and_nothing_is_left(
    lake: Any, caller: Any, file_name: str
) -> None:
    answer = await send(caller, file_name, BROKEN[file_name])
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] in ("unreadable_file", "unsupported_file")
    assert str(lake.settings.data_dir) not in answer.text
    assert "incoming" not in answer.text
    assert kept(lake, caller.tenant_id) == []
    assert (await caller.http.get("/datasets")).json()["datasets"] == []


async def test_a_file_that_unpacks_beyond_measure_is_refused(lake: Any, caller: Any) -> None:
    group = pa.table({"a": pa.repeat(pa.scalar(7, pa.int64()), 10_000_000)})
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, group.schema) as writer:
        for _ in range(15):
            writer.write_table(group)
    assert len(sink.getvalue()) < 1_000_000
    answer = await send(caller, "bomb.parquet", sink.getvalue())
    assert (answer.status_code, answer.json()["code"]) == (400, "unreadable_file")
    assert "unpacks" in answer.json()["error"]
    assert kept(lake, caller.tenant_id) == []


async def test_a_type_that_a_late_row_belies_is_found_from_all_rows(caller: Any) -> None:
    content = b"a,b\n" + b"1,2\n" * 5000 + b"none,4\n"
    answer = await send(caller, "late.csv", content)
    assert answer.status_code == 201, answer.text
    assert answer.json()["columns"][0]["type"] == "string"
    assert await caller.rows("select count(*) as n from late where a = 'none'") == [{"n": 1}]


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{}", {"content-type": "application/json"}, 415, "unsupported_media_type"),
        (SALES, {"content-type": "text/csv"}, 415, "unsupported_media_type"),
        (b"", {"content-type": "multipart/form-data"}, 415, "unsupported_media_type"),
        (b"", {"content-type": "multipart/form-data; boundary=x"}, 400, "invalid_form"),
        (b"--x\r\n", {"content-type": "multipart/form-data; boundary=x"}, 400, "invalid_form"),
        (b"--x--\r\n", {"content-type": "multipart/form-data; boundary=x"}, 400, "validation_error"),
        (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\na,b\n1,2\n',
            {"content-type": "multipart/form-data; boundary=x"},
            400,
            "invalid_form",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\na\r\n--x--\r\n',
            {"content-type": "multipart/form-data; boundary=x"},
            400,
            "invalid_form",
        ),
        (
            b"\xff\xfe" * 500,
            {"content-type": "multipart/form-data; boundary=\xff".encode("latin-1")},
            415,
            "",
        ),
    ],
)
async def test_a_body_that_is_no_form_with_a_file_is_refused(
    lake: Any, caller: Any, body: bytes, headers: Any, status: int, code: str
) -> None:
    answer = await caller.http.post("/imports", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert code in answer.json()["code"]
    assert kept(lake, caller.tenant_id) == []


async def test_wrong_fields_are_told_by_name(lake: Any, caller: Any) -> None:
    answer = await send(caller, "a.csv", SALES, replace="perhaps", colour="red")
    assert answer.status_code == 400
    assert {error["path"] for error in answer.json()["errors"]} == {"replace", "colour"}
    answer = await send(caller, "a.csv", SALES, name="no name")
    assert [error["path"] for error in answer.json()["errors"]] == ["name"]
    answer = await send(caller, "данные.csv", SALES)
    assert [error["path"] for error in answer.json()["errors"]] == ["name"]
    assert kept(lake, caller.tenant_id) == []


async def test_a_name_in_use_is_a_conflict_unless_an_import_gives_way(lake: Any, caller: Any) -> None:
    first = (await send(caller, "a.csv", SALES)).json()["dataset"]
    await caller.http.patch("/config", json={"updateDatasets": {"a": {"description": "prices"}}})
    assert (await send(caller, "A.csv", SALES)).status_code == 409
    assert len(kept(lake, caller.tenant_id)) == 1
    assert len(await caller.rows("select * from a")) == 2
    answer = await send(caller, "a.jsonl", b'{"x": true}\n', replace="true")
    assert answer.status_code == 200, answer.text
    second = answer.json()["dataset"]
    assert second["from"] != first["from"]
    assert second["description"] == "prices"
    assert await caller.rows("select * from a") == [{"x": True}]
    await caller.add("b", caller.parquet("b", [{"x": 1}]))
    assert (await send(caller, "b.csv", SALES, replace="true")).status_code == 409
    assert await caller.rows("select * from b") == [{"x": 1}]


async def test_a_removed_import_and_a_replaced_one_leave_the_disk(lake: Any, caller: Any) -> None:
    uploads = Uploads(lake.settings.uploads)
    await send(caller, "a.csv", SALES)
    await send(caller, "a.csv", SALES, replace="true")
    assert len(kept(lake, caller.tenant_id)) == 2
    await collecting.collect_dropped_any(lake.database, uploads, seconds=0)
    assert len(kept(lake, caller.tenant_id)) == 1
    version = (await caller.http.get("/config")).headers["etag"].strip('"v')
    assert (await caller.http.delete("/datasets/a")).status_code == 200
    await collecting.collect_dropped_any(lake.database, uploads, seconds=0)
    assert kept(lake, caller.tenant_id) == []
    back = await caller.http.post("/config/rollback", json={"version": int(version)})
    assert back.status_code == 400, back.text
    assert back.json()["errors"][0]["code"] == "import_missing"


async def test_what_nobody_speaks_of_is_collected_and_what_is_being_written_is_not(
    lake: Any, caller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = Uploads(lake.settings.uploads)
    monkeypatch.setattr(storage, "UNLOCKED_SECONDS", -1)
    await send(caller, "a.csv", SALES)
    [file] = kept(lake, caller.tenant_id)
    directory = lake.settings.uploads / caller.tenant_id
    (directory / f"{uuid.uuid4().hex}.csv").write_bytes(SALES)
    (directory / INCOMING / f"{uuid.uuid4().hex}.csv").write_bytes(SALES)
    writing = uploads.receive(caller.tenant_id, "csv")
    await collecting.collect_orphans_any(lake.database, uploads)
    assert kept(lake, caller.tenant_id) == sorted([file, f"{INCOMING}/{writing.name}"])
    writing.close()
    await collecting.collect_orphans_any(lake.database, uploads)
    assert kept(lake, caller.tenant_id) == [file]
    assert len(await caller.rows("select * from a")) == 2


def test_the_sweeps_are_the_workers() -> None:
    rounds = {sweep.run for sweep in jobs.SWEEPS}
    assert {jobs.collect_dropped_uploads_any, jobs.collect_orphaned_uploads_any} <= rounds


async def test_the_same_request_again_has_the_same_answer_and_no_second_file(lake: Any, caller: Any) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await send(caller, "a.csv", SALES, headers=headers)
    again = await send(caller, "a.csv", SALES, headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())
    assert len(kept(lake, caller.tenant_id)) == 1
    reused = await send(caller, "a.csv", SALES + b"3,x,1\n", headers=headers)
    assert (reused.status_code, reused.json()["code"]) == (409, "idempotency_key_reuse")
    assert len(kept(lake, caller.tenant_id)) == 1


async def test_twins_under_one_key_make_one_dataset(lake: Any, caller: Any) -> None:
    headers = {"Idempotency-Key": "twins"}
    answers = await asyncio.gather(*(send(caller, "a.csv", SALES, headers=headers) for _ in range(3)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["dataset"]["from"] for answer in answers}) == 1
    assert len(kept(lake, caller.tenant_id)) == 1


async def test_an_import_that_is_only_tried_keeps_nothing(lake: Any, caller: Any) -> None:
    answer = await send(caller, "a.csv", SALES, validateOnly="true")
    assert answer.status_code == 200, answer.text
    assert answer.json()["rowCount"] == 2
    assert kept(lake, caller.tenant_id) == []
    assert (await caller.http.get("/datasets")).json()["datasets"] == []


async def test_an_old_version_is_a_412_and_keeps_nothing(lake: Any, caller: Any) -> None:
    answer = await send(caller, "a.csv", SALES, headers={"If-Match": '"v7"'})
    assert answer.status_code == 412
    assert kept(lake, caller.tenant_id) == []


async def test_a_tenant_has_so_much_room_and_no_more(
    lake: Any, caller: Any, settings_of: Callable[..., Any]
) -> None:
    from tests.serving import served

    from weir.context_lake.app import create_app

    big = b"a\n" + b"1\n" * 350_000
    async with (
        served(create_app(settings_of(imports_quota_mib=1, import_max_mib=2))) as url,
        lake.caller(caller.tenant_id, url=url) as small,
    ):
        assert (await send(small, "a.csv", big)).status_code == 201
        for file_name in ("b.csv", "c.csv"):
            full = await send(small, file_name, big)
            assert (full.status_code, full.json()["code"]) == (413, "imports_full")
        assert len(kept(lake, caller.tenant_id)) == 1
        assert (await send(small, "a.csv", big, replace="true")).status_code in (200, 413)
        await small.http.delete("/datasets/a")
        assert (await send(small, "b.csv", big)).status_code == 201

        async def stream() -> Any:
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="big.csv"\r\n\r\n'
            for _ in range(40):
                yield b"1\n" * 50_000

        before = kept(lake, caller.tenant_id)
        headers = {"content-type": "multipart/form-data; boundary=x"}
        await small.http.delete("/datasets/b")
        refused = await small.http.post("/imports", content=stream(), headers=headers)
        assert refused.status_code == 413, refused.text
        assert "2 MiB" in refused.json()["error"]
        assert kept(lake, caller.tenant_id) == before


async def test_a_caller_who_goes_away_leaves_nothing(lake: Any, caller: Any) -> None:
    started = asyncio.Event()

    async def stream() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="big.csv"\r\n\r\n'
        for _ in range(30):
            yield b"1\n" * 50_000
        started.set()
        await asyncio.sleep(30)
        yield b""

    headers = {"content-type": "multipart/form-data; boundary=x"}
    sending = asyncio.create_task(caller.http.post("/imports", content=stream(), headers=headers))
    await started.wait()
    until = asyncio.get_running_loop().time() + 5
    while not kept(lake, caller.tenant_id):
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.02)
    sending.cancel()
    while kept(lake, caller.tenant_id):
        assert asyncio.get_running_loop().time() < until + 5
        await asyncio.sleep(0.05)
    assert (await caller.http.get("/datasets")).json()["datasets"] == []


async def test_a_view_over_an_import_is_checked_at_once(caller: Any) -> None:
    await send(caller, "a.csv", SALES)
    good = await caller.http.post("/views", json={"name": "v", "sql": "select price from a"})
    assert good.status_code == 201, good.text
    assert good.json()["warnings"] == []
    bad = await caller.http.post("/views", json={"name": "w", "sql": "select cost from a"})
    assert bad.status_code == 400


async def test_a_caller_without_the_scope_uploads_nothing(lake: Any, caller: Any) -> None:
    async with lake.caller(caller.tenant_id, ("lake:read", "lake:query")) as reader:
        assert (await send(reader, "a.csv", SALES)).status_code == 403
    assert kept(lake, caller.tenant_id) == []


async def test_uploads_are_for_the_platforms_own_eyes(lake: Any, caller: Any) -> None:
    await send(caller, "a.csv", SALES)
    directory: Path = lake.settings.uploads / caller.tenant_id
    [file] = kept(lake, caller.tenant_id)
    assert os.stat(directory / file).st_mode & 0o777 == 0o600
    assert os.stat(directory).st_mode & 0o077 == 0


async def test_five_at_once_are_told_to_wait(lake: Any, caller: Any) -> None:
    gate = asyncio.Event()

    async def slow(n: int) -> Any:
        async def stream() -> Any:
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="f%d.csv"\r\n\r\n' % n
            yield SALES
            await gate.wait()
            yield b"\r\n--x--\r\n"

        headers = {"content-type": "multipart/form-data; boundary=x"}
        return await caller.http.post("/imports", content=stream(), headers=headers)

    running = [asyncio.create_task(slow(n)) for n in range(4)]
    until = asyncio.get_running_loop().time() + 10
    while len(kept(lake, caller.tenant_id)) < 4:
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.02)
    refused = await send(caller, "f9.csv", SALES)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_uploads")
    gate.set()
    assert {answer.status_code for answer in await asyncio.gather(*running)} == {201}
    assert json.loads((await caller.http.get("/datasets")).text)["datasets"][0]["name"] == "f0"
