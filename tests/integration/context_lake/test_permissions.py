"""What is private exists for its creator and for admins only."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

SECRET = {"name": "salaries", "from": "file:salaries.csv", "visibility": "private"}


@pytest.fixture
async def colleague(lake: Any, tenant_id: str) -> AsyncIterator[Any]:
    """Another person of the same tenant."""
    async with lake.caller(tenant_id, subject="colleague") as caller:
        yield caller


@pytest.fixture
async def admin(lake: Any, tenant_id: str) -> AsyncIterator[Any]:
    async with lake.caller(tenant_id, ("admin",), subject="boss") as caller:
        yield caller


@pytest.fixture
async def salaries(caller: Any) -> None:
    for path, body in (
        ("/datasets", SECRET),
        ("/datasets", {"name": "sales", "from": "file:sales.csv"}),
        ("/views", {"name": "mine", "sql": "select * from salaries", "visibility": "private"}),
        ("/views", {"name": "totals", "sql": "select * from salaries"}),
    ):
        assert (await caller.http.post(path, json=body)).status_code == 201


async def names(caller: Any) -> dict[str, set[str]]:
    """What each list tells of."""
    config = (await caller.http.get("/config")).json()["config"]
    version = (await caller.http.get("/config/versions/4")).json()["config"]
    return {
        "datasets": {item["name"] for item in (await caller.http.get("/datasets")).json()["datasets"]},
        "views": {item["name"] for item in (await caller.http.get("/views")).json()["views"]},
        "config": {item["name"] for item in (*config["datasets"], *config["views"])},
        "version": {item["name"] for item in (*version["datasets"], *version["views"])},
        "status": set((await caller.status())["datasets"]),
    }


@pytest.mark.usefixtures("salaries")
async def test_a_private_item_is_listed_for_its_creator_and_for_admins_only(
    caller: Any, colleague: Any, admin: Any
) -> None:
    everything = {
        "datasets": {"salaries", "sales"},
        "views": {"mine", "totals"},
        "config": {"salaries", "sales", "mine", "totals"},
        "version": {"salaries", "sales", "mine", "totals"},
        "status": {"salaries", "sales"},
    }
    assert await names(caller) == everything
    assert await names(admin) == everything
    assert await names(colleague) == {
        "datasets": {"sales"},
        "views": {"totals"},
        "config": {"sales", "totals"},
        "version": {"sales", "totals"},
        "status": {"sales"},
    }
    tables = (await colleague.http.get("/tables")).json()["tables"]
    assert {table["name"] for table in tables} == {"sales", "totals"}


@pytest.mark.usefixtures("salaries")
async def test_a_private_item_is_not_found_by_others_whatever_they_do(colleague: Any) -> None:
    requests: list[tuple[str, str, Any]] = [
        ("GET", "/datasets/salaries", None),
        ("PUT", "/datasets/salaries", {"from": "file:a.csv"}),
        ("DELETE", "/datasets/salaries", None),
        ("GET", "/views/mine", None),
        ("PUT", "/views/mine", {"sql": "select 1 as x"}),
        ("DELETE", "/views/mine", None),
    ]
    for method, path, body in requests:
        assert (await colleague.http.request(method, path, json=body)).status_code == 404, (method, path)
    patch = {
        "removeDatasets": ["salaries"],
        "updateViews": {"mine": {"description": "x"}},
        "addViews": [
            {"name": "v", "sql": "select * from salarie"},
            {"name": "w", "sql": "select * from salaries"},
        ],
    }
    answer = await colleague.http.patch("/config", json=patch)
    assert [error["code"] for error in answer.json()["errors"]] == [
        "not_found",
        "not_found",
        "unknown_table",
        "unknown_table",
    ]
    assert "did you mean 'salaries'" not in answer.text
    answer = await colleague.http.post("/config/rollback", json={"version": 1})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@pytest.mark.usefixtures("salaries")
async def test_nobody_removes_a_view_that_he_does_not_see(caller: Any, colleague: Any) -> None:
    await caller.http.post(
        "/views", json={"name": "own", "sql": "select * from sales", "visibility": "private"}
    )
    for query in ("", "?cascade=true"):
        answer = await colleague.http.delete(f"/datasets/sales{query}")
        assert (answer.status_code, answer.json()["dependents"]) == (409, [])
    answer = await colleague.http.patch("/config", json={"removeDatasets": ["sales"]})
    assert answer.json()["errors"][0]["message"] == "sales is used by a view that you cannot see"
    assert (await caller.http.delete("/datasets/sales?cascade=true")).status_code == 200


@pytest.mark.usefixtures("salaries")
async def test_an_admin_may_change_what_is_private_and_it_stays_its_creators(caller: Any, admin: Any) -> None:
    answer = await admin.http.patch("/config", json={"updateDatasets": {"salaries": {"description": "x"}}})
    assert answer.status_code == 200
    assert (await caller.http.get("/datasets/salaries")).json()["createdBy"] == "user:tester"


async def test_a_name_taken_by_somebody_elses_private_dataset_is_in_use(caller: Any, colleague: Any) -> None:
    await caller.http.post("/datasets", json=SECRET)
    answer = await colleague.http.post("/datasets", json=SECRET)
    assert (answer.status_code, answer.json()["code"]) == (409, "name_conflict")


async def test_a_reader_cannot_change_the_catalogue(lake: Any, tenant_id: str) -> None:
    async with lake.caller(tenant_id, ("lake:read", "lake:query")) as reader:
        for method, path in (
            ("POST", "/views"),
            ("PUT", "/views/a"),
            ("DELETE", "/views/a"),
            ("PATCH", "/config"),
            ("POST", "/config/rollback"),
        ):
            answer = await reader.http.request(method, path, json={})
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), path
        assert (await reader.http.get("/config/versions")).status_code == 200


async def test_a_private_table_is_not_found_in_anybody_elses_statement(
    caller: Any, colleague: Any, admin: Any
) -> None:
    """Sub-queries and CTEs included; a shared view over it answers, because who wrote the view saw the table."""
    source = caller.parquet("pay", [{"id": 1, "amount": 7}])
    await caller.add("pay", source, visibility="private")
    made = await caller.http.post("/views", json={"name": "total", "sql": "select sum(amount) as n from pay"})
    assert made.status_code == 201, made.text
    assert await caller.rows("select amount from pay") == [{"amount": 7}]
    assert await admin.rows("select amount from pay") == [{"amount": 7}]
    for statement in (
        "select * from pay",
        'select * from "PAY"',
        "select 1 as one where exists (select 1 from pay)",
        "with p as (select * from pay) select * from p",
        "select amount from total join pay on true",
    ):
        refused = await colleague.sql(statement)
        assert (refused.status_code, refused.json()["code"]) == (400, "sql_error"), statement
        assert "not found" in refused.json()["error"]
        assert "7" not in refused.text.replace(refused.json()["requestId"], "")
    assert await colleague.rows("select n from total") == [{"n": 7}]
    assert "pay" not in (await colleague.sql("select table_name from information_schema.tables")).text
    assert (
        await caller.http.put("/datasets/pay", json={"from": source, "visibility": "shared"})
    ).status_code == 200
    assert await colleague.rows("select amount from pay") == [{"amount": 7}]
