"""`POST /sql`: its body, its refusals, its limits."""

import asyncio
import time
from typing import Any

import pytest
from tests.integration.context_lake.conftest import eventually

from weir.context_lake import admission

ROWS = [{"id": n, "name": f"n{n}"} for n in range(100)]
# Holds a place for a while and can be cancelled.
SLOW = "select count(*) from numbers a, numbers b, numbers c, numbers d where a.id + b.id + c.id < d.id"


@pytest.mark.parametrize("body", [{}, {"query": ""}, {"query": "  "}, {"query": 7}, {"query": None}])
async def test_a_missing_query_is_told_at_query(caller: Any, body: dict[str, Any]) -> None:
    answer = await caller.http.post("/sql", json=body)
    assert answer.status_code == 400
    assert [error["path"] for error in answer.json()["errors"]] == ["query"]


async def test_limits_are_checked_all_at_once(caller: Any) -> None:
    answer = await caller.http.post(
        "/sql", json={"query": "x", "sql": "x", "maxRows": 0, "timeoutSeconds": 181}
    )
    assert {error["path"] for error in answer.json()["errors"]} == {"sql", "maxRows", "timeoutSeconds"}


async def test_a_query_is_asked_in_several_ways(caller: Any) -> None:
    assert (await caller.http.post("/sql", json={"sql": "select 1 as one"})).json()["rows"] == [{"one": 1}]
    plain = await caller.http.post("/sql", content="select 2 as two", headers={"content-type": "text/plain"})
    assert plain.json()["rows"] == [{"two": 2}]
    assert await caller.rows("select $1 as a", parameters=[3]) == [{"a": 3}]
    assert await caller.rows("select $b as b", parameters={"b": "x"}) == [{"b": "x"}]


async def test_rows_are_capped_and_the_answer_says_so(caller: Any) -> None:
    await caller.add("numbers", caller.parquet("numbers", ROWS))
    answer = (await caller.sql("select * from numbers", maxRows=10)).json()
    assert (answer["rowCount"], answer["truncated"]) == (10, True)


async def test_other_kinds_are_refused(caller: Any) -> None:
    xml = await caller.http.post("/sql", json={"query": "select 1"}, headers={"accept": "text/xml"})
    assert (xml.status_code, xml.json()["code"]) == (406, "not_acceptable")
    form = await caller.http.post("/sql", data={"query": "select 1"})
    assert (form.status_code, form.json()["code"]) == (415, "unsupported_media_type")
    broken = await caller.http.post("/sql", content=b"{", headers={"content-type": "application/json"})
    assert (broken.status_code, broken.json()["code"]) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("SELEKT 1", 400, "sql_error"),
        ("select * from nowhere", 400, "sql_error"),
        ("create table t as select 1", 403, "statement_not_allowed"),
        ("set x = 1", 403, "statement_not_allowed"),
    ],
)
async def test_the_runtimes_refusals_are_told_at_the_query(
    caller: Any, query: str, status: int, code: str
) -> None:
    answer = await caller.sql(query)
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code)
    assert body["error"]
    assert body["requestId"]
    assert body["errors"] == [{"path": "query", "message": body["error"], "code": code}]


async def test_a_query_over_its_time_is_504_and_says_executing(caller: Any) -> None:
    await caller.add("numbers", caller.parquet("numbers", [{"id": n} for n in range(2000)]))
    await caller.rows("select count(*) from numbers")
    started = time.monotonic()
    answer = await caller.sql(SLOW, timeoutSeconds=1)
    assert time.monotonic() - started < 2.5
    assert (answer.status_code, answer.json()["code"], answer.json()["phase"]) == (
        504,
        "timeout",
        "executing",
    )
    assert await caller.rows("select count(*) as n from numbers") == [{"n": 2000}]


async def test_too_many_queries_of_one_tenant_are_429(caller: Any, other: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(admission, "RUNNING", 2)
    monkeypatch.setattr(admission, "QUEUED", 3)
    await caller.add("numbers", caller.parquet("numbers", [{"id": n} for n in range(2000)]))
    await caller.rows("select count(*) from numbers")
    answers = await asyncio.gather(
        *(caller.sql(SLOW, timeoutSeconds=2 if n < 2 else 1) for n in range(8)), other.sql("select 1 as one")
    )
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 3
    assert {answer.json()["code"] for answer in refused} == {"too_many_queries"}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert {answer.json().get("phase") for answer in answers if answer.status_code == 504} == {
        "executing",
        "queued",
    }
    assert answers[-1].status_code == 200


async def test_a_caller_who_leaves_ends_the_query(caller: Any) -> None:
    await caller.add("numbers", caller.parquet("numbers", [{"id": n} for n in range(2000)]))
    await caller.rows("select count(*) from numbers")
    asking = asyncio.create_task(caller.sql(SLOW))
    await asyncio.sleep(0.5)
    assert await active_queries(caller) == 1
    asking.cancel()
    await eventually(lambda: no_active_queries(caller), within=8)


async def active_queries(caller: Any) -> int:
    from prometheus_client.parser import text_string_to_metric_families

    address = caller.http.base_url.copy_with(raw_path=b"/metrics")
    text = (await caller.http.get(str(address))).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return int(families["weir_lake_sql_running"].samples[0].value)


async def no_active_queries(caller: Any) -> bool:
    return await active_queries(caller) == 0


async def test_a_long_answer_arrives_whole(caller: Any) -> None:
    query = "select a.value as a, repeat('x', 90) as text from generate_series(1, 300000) as a"
    answer = await caller.sql(query, maxRows=1_000_000)
    assert len(answer.json()["rows"]) == 300_000


async def test_a_reader_who_leaves_in_the_middle_ends_the_answer(caller: Any) -> None:
    query = "select a.value as a, repeat('x', 500) as text from generate_series(1, 900000) as a"
    async with caller.http.stream("POST", "/sql", json={"query": query, "maxRows": 1_000_000}) as answer:
        async for chunk in answer.aiter_raw():
            assert chunk.startswith(b'{"rows":[')
            break
    await eventually(lambda: no_active_queries(caller), within=8)


@pytest.mark.parametrize(
    "body",
    [
        b'{"query": "select $1", "parameters": [' + b"9" * 400 + b"]}",
        b'{"query": "select $1", "parameters": [' + b"9" * 5000 + b"]}",
        b'{"query": "select 1", "maxRows": ' + b"9" * 40 + b"}",
        b'{"query": "select 1", "maxRows": 1.5}',
        b'{"query": "select 1", "timeoutSeconds": 1e400}',
        b'{"query": "select 1", "timeoutSeconds": "soon"}',
        b'{"query": "select 1", "parameters": "x"}',
        b'{"query": "select $1", "parameters": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"query": "select 1", "colour": 1}',
        b'{"query": "select 1\\u0000"}',
        b'{"query": "' + b"(" * 5000 + b'"}',
        b'{"query": "\xff"}',
        b'"select 1"',
        b"null",
    ],
)
async def test_a_hostile_query_is_a_clear_400(caller: Any, body: bytes) -> None:
    answer = await caller.http.post("/sql", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]
    assert answer.json()["code"]


async def test_a_text_that_is_no_text_is_a_clear_400(caller: Any) -> None:
    answer = await caller.http.post("/sql", content=b"\xff\xfe", headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")


async def test_a_body_over_the_limit_is_413(caller: Any) -> None:
    answer = await caller.http.post("/sql", json={"query": "x" * 1_100_000})
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


async def test_the_document_tells_the_body_and_the_answer_of_a_query(lake: Any, caller: Any) -> None:
    document = (await caller.http.get(f"{lake.url}/schema/openapi.json")).json()
    operation = document["paths"]["/v1/context-lake/sql"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", "text/plain"}
    assert "rows" in str(document["components"]["schemas"])
    assert set(operation["responses"]) >= {"200"}
