"""Hostile input on the catalogue's routes: a clear refusal, nothing kept, and never a 5xx."""

import json
from typing import Any

import httpx
import pytest

JSON = {"content-type": "application/json"}
ODD_TEXTS = [
    "\0",
    "a\0b",
    "\x7f",
    "\x01",
    "\u2028",
    "\ufeff",
    "\U0010ffff",
    "\u202e",
    "' or 1=1 --",
    "a\r\nX: y",
]
NUMBERS = [
    "99999999999999999999",
    "-9223372036854775809",
    "1e400",
    "-1e400",
    "1e-400",
    "0.1e99999",
    "1" * 5000,
]
NAMES = [
    "", " ", ".", "..", "...", "a b", "a/b", "a\\b", "../a", "..\\a", "/etc/passwd", "//a", "a//b", "%2e%2e",
    "a%00", "a\0", "a\n", "a\t", "a;b", "a'b", 'a"b', '"a"', "`a`", "[a]", "a.b.c", ".a", "a.", "a..b", "1a",
    "-a", "a-b", "$a", "a$", "@a", "#a", "a?b", "a&b", "a=b", "a+b", "a*b", "a|b", "a<b", "{a}", "${a}", "é",
    "ａ", "a\u200b", "\u202ea", "x" * 64, "x" * 10_000,
]  # fmt: skip
INJECTIONS = [
    "select 1 as x; drop table sales",
    "select 1 as x) as y; create table z as (select 1",
    "select * from sales; select 1 as x --",
    "copy (select 1) to '/tmp/weir-hostile'",
    "explain analyze copy (select 1) to '/tmp/weir-hostile'",
    "create external table x stored as csv location '/etc/passwd'",
    "create view x as select 1",
    "insert into sales values (1)",
    "set datafusion.execution.batch_size = 1",
    "select * from '/etc/passwd'",
    "select * from 'file:///etc/passwd'",
    "select * from \"/etc/passwd\"",
    "select * from 's3://other/secret.parquet'",
    "select * from read_csv('/etc/passwd')",
    "select * from information_schema.df_settings",
    "select * from information_schema.tables",
    "select * from runtime.task_history",
    "select * from lake.public.sales",
    "select * from other.public.sales",
    "show all",
    "show tables",
    "describe sales",
    "prepare p as select 1",
    "with x as (insert into sales values (1) returning *) select * from x",
    "select 1 as x /* unended",
    "select 1 as x into outfile '/tmp/weir-hostile'",
    "\0select 1 as x",
    "{{ sales }}",
]  # fmt: skip


async def refused(caller: Any, method: str, path: str, content: bytes, *statuses: int) -> httpx.Response:
    answer = await caller.http.request(method, path, content=content, headers=JSON)
    assert answer.status_code in (statuses or (400,)), (path, content[:80], answer.text[:300])
    body = answer.json()
    assert body["error"] and body["code"] and body["requestId"]
    assert "Traceback" not in answer.text
    return answer


async def assert_empty(caller: Any) -> None:
    body = (await caller.http.get("/config")).json()
    assert (body["version"], body["config"]["datasets"], body["config"]["views"]) == (0, [], [])


@pytest.mark.parametrize("text", ["\0", "a\0b"])
async def test_nul_in_any_text_is_refused_where_it_stands(caller: Any, text: str) -> None:
    dataset = {"name": "a", "from": "file:a.csv"}
    view = {"name": "v", "sql": "select 1 as x"}
    for path, body, at in (
        ("/datasets", dataset | {"name": text}, "name"),
        ("/datasets", dataset | {"from": f"file:{text}"}, "from"),
        ("/datasets", dataset | {"description": text}, "description"),
        ("/datasets", dataset | {"visibility": text}, "visibility"),
        ("/datasets", dataset | {"params": {"csv_quote": text}}, "csv_quote"),
        ("/datasets", dataset | {"params": {text: "x"}}, text),
        ("/datasets", dataset | {"metadata": {"x": [{"y": text}]}}, "metadata"),
        ("/datasets", dataset | {"metadata": {text: 1}}, "metadata"),
        ("/datasets", dataset | {text: 1}, text),
        ("/views", view | {"name": text}, "name"),
        ("/views", view | {"sql": f"select '{text}' as x"}, "sql"),
        ("/views", view | {"description": text}, "description"),
        ("/views", view | {"metadata": {"x": text}}, "metadata"),
    ):
        answer = await refused(caller, "POST", path, json.dumps(body).encode())
        assert [error["path"] for error in answer.json()["errors"]] == [at], body
    await refused(caller, "PATCH", "/config", json.dumps({"removeDatasets": [text]}).encode())
    await refused(caller, "PATCH", "/config", json.dumps({"updateViews": {text: {"sql": text}}}).encode())
    await assert_empty(caller)


async def test_odd_texts_are_kept_as_they_are_or_refused(caller: Any) -> None:
    for n, text in enumerate(ODD_TEXTS):
        body = {"name": f"t{n}", "from": "file:a.csv", "description": text, "metadata": {"text": text}}
        answer = await caller.http.post("/datasets", json=body)
        assert answer.status_code == (400 if "\0" in text else 201), repr(text)
        if answer.status_code == 201:
            kept = (await caller.http.get(f"/datasets/t{n}")).json()
            assert (kept["description"], kept["metadata"]) == (text, {"text": text})


@pytest.mark.parametrize("number", NUMBERS)
async def test_numbers_beyond_what_is_kept_are_refused(caller: Any, number: str) -> None:
    for body in (
        '{"name": "a", "from": "file:a.csv", "notifications": %s}',
        '{"name": "a", "from": "file:a.csv", "description": %s}',
        '{"name": %s, "from": "file:a.csv"}',
        '{"name": "a", "from": "file:a.csv", "params": %s}',
    ):
        await refused(caller, "POST", "/datasets", (body % number).encode())
    for body in (
        '{"name": "a", "from": "file:a.csv", "metadata": {"n": %s}}',
        '{"name": "a", "from": "file:a.csv", "params": {"csv_delimiter": %s}}',
    ):
        answer = await caller.http.post(
            "/datasets?validateOnly=true", content=(body % number).encode(), headers=JSON
        )
        assert answer.status_code in (200, 400), answer.text
    await refused(caller, "POST", "/config/rollback", (b'{"version": %s}' % number.encode()), 400, 404)
    for path in (f"/config/versions/{number}", f"/datasets?limit={number}", f"/views?limit={number}"):
        assert (await caller.http.get(path)).status_code in (400, 404), path
    answer = await caller.http.patch("/config", json={}, headers={"If-Match": f'"v{number}"'})
    assert answer.status_code == 412
    await assert_empty(caller)


async def test_deep_json_and_broken_utf8_are_refused_on_every_writing_route(caller: Any) -> None:
    deep = 100_000
    contents = [
        b"[" * deep,
        b'{"a":' * deep,
        b'{"metadata":' + b"[" * deep + b"]" * deep + b"}",
        b'{"params":{"x":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_002,
        b'{"name": "\xff\xfe"}',
        b'{"name": "\xc0\x80"}',
        b'{"name": "\xed\xa0\x80"}',
        b'{"name": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"\0",
        b"{} {}",
        b'{"name": NaN}',
        b'{"name": Infinity}',
        b"null",
        b"1",
        b'"text"',
        b"[]",
    ]
    routes = (
        ("POST", "/datasets"),
        ("PUT", "/datasets/a"),
        ("POST", "/views"),
        ("PUT", "/views/v"),
        ("PATCH", "/config"),
        ("POST", "/config/rollback"),
    )
    for method, path in routes:
        for content in contents:
            await refused(caller, method, path, content)
    await assert_empty(caller)


async def test_no_odd_name_is_taken_or_found(caller: Any) -> None:
    assert len(NAMES) == 50
    for name in NAMES:
        for path, more in (("/datasets", {"from": "file:a.csv"}), ("/views", {"sql": "select 1 as x"})):
            answer = await refused(caller, "POST", path, json.dumps({"name": name} | more).encode())
            assert [error["path"] for error in answer.json()["errors"]] == ["name"], name
            patch = {"updateDatasets": {name: {}}, "removeViews": [name]}
            await refused(caller, "PATCH", "/config", json.dumps(patch).encode())
            if name in ("", ".", ".."):
                continue  # another path
            encoded = "".join(f"%{byte:02x}" for byte in name.encode())
            if len(encoded) > 8_000:
                continue
            for method in ("GET", "DELETE"):
                answer = await caller.http.request(method, f"{path}/{encoded}")
                assert answer.status_code in (404, 405), (method, name)
    await assert_empty(caller)


async def test_no_odd_path_is_read_from(caller: Any) -> None:
    """`from` leads nowhere outside the operator's directory, whatever it is written as."""
    for source in (
        "file:/etc/passwd", "file:///etc/passwd", "file://localhost/etc/passwd", "file:../../etc/passwd.csv",
        "file:a/../../b.csv", "file:/proc/self/environ",
        "file:a.csv\0", "/etc/passwd", "../a.csv", "passwd", "", ":", "file", "file:", "s3:", "s3://", "s3:///a",
        "gopher://a/b", "javascript:alert(1)", "kafka:topic", "s3://a:b@bucket/x.csv", "http://169.254.169.254/a",
    ):  # fmt: skip
        body = json.dumps({"name": "a", "from": source}).encode()
        answer = await refused(caller, "POST", "/datasets", body)
        assert answer.json()["errors"][0]["path"] in ("from", "file_format"), source
    await assert_empty(caller)


@pytest.mark.parametrize("sql", INJECTIONS)
async def test_a_view_is_no_way_in(caller: Any, sql: str) -> None:
    await caller.add("sales", caller.parquet("sales", [{"x": 1}]))
    answer = await refused(caller, "POST", "/views", json.dumps({"name": "v", "sql": sql}).encode())
    assert {error["path"] for error in answer.json()["errors"]} == {"sql"}
    assert (await caller.http.get("/config")).json()["version"] == 1


async def test_odd_headers_and_queries_are_refused_or_ignored(caller: Any) -> None:
    for query in ("limit=-1", "limit=1.5", "cursor=%00", "cursor=%ff%fe", "cascade=maybe"):
        method, path = ("DELETE", "/datasets/a") if "cascade" in query else ("GET", "/datasets")
        answer = await caller.http.request(method, f"{path}?{query}")
        assert answer.status_code == 400, query
    for header, value in (("If-Match", "\xff"), ("Idempotency-Key", "\xff" * 129), ("Accept", "x" * 4000)):
        answer = await caller.http.patch("/config", json={}, headers={header: value.encode("latin-1")})
        assert answer.status_code in (200, 400, 412), header
    assert (await caller.http.patch("/config?validateOnly=perhaps", json={})).status_code == 400
