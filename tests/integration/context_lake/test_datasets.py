"""The dataset routes as a client sees them."""

import asyncio
from typing import Any

import pytest
from tests.unit.context_lake.conftest import s3


async def test_a_dataset_is_added_listed_shown_and_removed(caller: Any) -> None:
    added = await caller.http.post(
        "/datasets", json={"name": "Sales", "from": "file:sales.csv", "description": "x"}
    )
    assert added.status_code == 201
    assert added.headers["location"] == "/v1/context-lake/datasets/Sales"
    body = added.json()
    assert (body["ok"], body["version"], body["warnings"]) == (True, 1, [])
    assert body["dataset"]["connectorId"] == "file"
    await caller.add("a", "file:a.csv")
    listed = (await caller.http.get("/datasets")).json()["datasets"]
    assert [dataset["name"] for dataset in listed] == ["a", "Sales"]
    assert (await caller.http.get("/datasets/sales")).json() == body["dataset"]
    assert (await caller.http.delete("/datasets/SALES")).json() == {"ok": True, "version": 3}
    for method in ("GET", "DELETE"):
        gone = await caller.http.request(method, "/datasets/Sales")
        assert (gone.status_code, gone.json()["code"]) == (404, "dataset_not_found")


async def test_a_name_in_use_is_409(caller: Any) -> None:
    await caller.add("sales", "file:a.csv")
    answer = await caller.http.post("/datasets", json={"name": "SALES", "from": "file:b.csv"})
    assert (answer.status_code, answer.json()["code"]) == (409, "name_conflict")


async def test_what_was_read_can_be_sent_back(caller: Any) -> None:
    before = (await caller.http.post("/datasets", json=s3())).json()["dataset"]
    answer = await caller.http.put("/datasets/sales", json=before)
    assert answer.status_code == 200, answer.text
    after = answer.json()["dataset"]
    assert after["params"] == before["params"]
    async with caller.database.tenant(caller.tenant_id) as connection:
        kept = await connection.fetch(
            "select reference from lake_secrets where tenant_id = $1", caller.tenant_id
        )
    assert {row["reference"] for row in kept} == {"ds.sales.s3_key", "ds.sales.s3_secret"}


async def test_a_put_of_an_unknown_dataset_adds_nothing(caller: Any) -> None:
    answer = await caller.http.put("/datasets/absent", json={"from": "file:a.csv"})
    assert (answer.status_code, answer.json()["code"]) == (404, "dataset_not_found")
    assert (await caller.http.get("/datasets")).json() == {"datasets": []}


async def test_validation_tells_every_fault_in_the_lakes_shape(caller: Any) -> None:
    answer = await caller.http.post("/datasets", json=s3(s3_key=None, s3_secret=None, s3_regio="x"))
    body = answer.json()
    assert answer.status_code == 400
    assert (body["error"], body["code"]) == ("Validation failed", "validation_error")
    assert body["requestId"] == answer.headers["x-request-id"]
    assert [error["path"] for error in body["errors"]] == ["s3_regio", "s3_key", "s3_secret"]
    assert body["errors"][1] == {
        "path": "s3_key",
        "message": "s3_key is required when auth mode is key",
        "code": "required",
    }


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "invalid_json"),
        (b"", "validation_error"),
        (b"[]", "validation_error"),
        (b"[" * 5000, "invalid_json"),
        (b'{"name": "\xff"}', "invalid_json"),
        (b'{"name": 1, "from": "file:a.csv"}', "validation_error"),
        (b'{"name": "a", "from": "file:a.csv", "colour": 1}', "validation_error"),
        (b'{"name": "a", "from": "file:a.csv", "params": []}', "validation_error"),
        (b'{"name": "a", "from": "file:a\\u0000.csv"}', "validation_error"),
        (b'{"name": "a", "from": "file:a.csv", "notifications": null}', "validation_error"),
        (
            b'{"name": "a", "from": "file:a.csv", "params": {"csv_quote": ' + b"9" * 5000 + b"}}",
            "invalid_json",
        ),
        (b'{"name": "a", "from": "file:a.csv", "params": {"": ""}}', "validation_error"),
        (b'{"name": "a", "from": "file:' + b"x/" * 1100 + b'.csv"}', "validation_error"),
        (b'{"name": "a", "from": "file:a.csv", "params": {"csv_quote": "\\ud800"}}', "invalid_json"),
    ],
)
async def test_a_hostile_body_is_a_clear_400(caller: Any, content: bytes, code: str) -> None:
    answer = await caller.http.post(
        "/datasets", content=content, headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, code), answer.text


async def test_twenty_writers_at_once_all_succeed(caller: Any) -> None:
    await asyncio.gather(*(caller.add(f"t{n}", f"file:{n}.csv") for n in range(20)))
    listed = (await caller.http.get("/datasets")).json()["datasets"]
    assert len(listed) == 20
    assert (await caller.http.get("/config")).json()["version"] == 20


async def test_a_new_tenant_has_an_empty_lake(caller: Any) -> None:
    assert (await caller.http.get("/config")).json() == {
        "yaml": "version: v1\nkind: Spicepod\nname: context-lake\ndatasets: []\nviews: []\n",
        "config": {"version": "v1", "kind": "Spicepod", "name": "context-lake", "datasets": [], "views": []},
        "version": 0,
        "appliedVersion": None,
        "updatedAt": None,
    }
    assert (await caller.status())["vmStatus"] == "not_provisioned"


async def test_another_tenants_dataset_is_not_found(caller: Any, other: Any) -> None:
    await caller.add("sales", "file:a.csv")
    assert (await other.http.get("/datasets/sales")).status_code == 404
    assert (await other.http.delete("/datasets/sales")).status_code == 404
    assert (await other.http.get("/datasets")).json() == {"datasets": []}


async def test_scopes_open_routes_and_nothing_else_does(lake: Any, tenant_id: str) -> None:
    async with lake.caller(tenant_id, ("lake:read",)) as reader:
        assert (await reader.http.get("/datasets")).status_code == 200
        assert (await reader.http.get("/status")).status_code == 200
        for method, path in (
            ("POST", "/datasets"),
            ("DELETE", "/datasets/a"),
            ("POST", "/sql"),
            ("POST", "/stop"),
        ):
            answer = await reader.http.request(method, path, json={})
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    async with lake.caller(tenant_id) as caller:
        del caller.http.headers["x-weir-ticket"]
        assert (await caller.http.get("/datasets")).status_code == 401


async def test_secrets_are_in_no_answer_and_not_plain_in_the_database(caller: Any, capfd: Any) -> None:
    canary = "canary-9f2b7c41"
    body = s3(s3_key=f"{canary}-key", s3_secret=f"{canary}-secret")
    answers = [
        await caller.http.post("/datasets", json=body),
        await caller.http.post(
            "/datasets", json=body | {"name": "again", "params": body["params"] | {"nope": 1}}
        ),
        await caller.http.get("/datasets"),
        await caller.http.get("/datasets/sales"),
        await caller.http.get("/config"),
        await caller.sql("select * from sales"),
        await caller.http.get("/tables"),
        await caller.http.get("/status"),
    ]
    assert [answer.text for answer in answers if canary in answer.text] == []
    async with caller.database.any_tenant() as connection:
        for table in ("lakes", "lake_configs", "lake_secrets", "lake_vms"):
            rows = await connection.fetch(
                f"select t::text as text from {table} as t where t.tenant_id = $1", caller.tenant_id
            )
            texts = [row["text"] for row in rows]
            assert texts
            assert [text for text in texts if canary in text or canary.encode().hex() in text] == []
    await caller.http.delete("/datasets/sales")
    async with caller.database.tenant(caller.tenant_id) as connection:
        left = await connection.fetchval(
            "select count(*) from lake_secrets where tenant_id = $1", caller.tenant_id
        )
    assert left == 0
    printed = capfd.readouterr()
    assert canary not in printed.out + printed.err


async def test_a_body_that_is_no_json_by_its_type_is_415(caller: Any) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/yaml"):
        answer = await caller.http.post(
            "/datasets",
            content=b'{"name": "a", "from": "file:a.csv"}',
            headers={"content-type": content_type},
        )
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type"), content_type
