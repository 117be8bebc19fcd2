"""Whether a view's columns exist is told when it is written, as far as the columns are known."""

from pathlib import Path
from typing import Any

import pytest
from tests.integration.context_lake.test_views import add_view, added, fault


@pytest.fixture
async def sales(caller: Any) -> str:
    """A dataset that the runtime has read."""
    await caller.add("sales", caller.parquet("sales", [{"region": "north", "amount": 2, "Day": 1}]))
    await caller.rows("select * from sales")
    return "sales"


@pytest.mark.parametrize("sleeps", [False, True])
@pytest.mark.usefixtures("sales")
async def test_a_view_over_a_column_that_does_not_exist_is_refused_with_the_engines_words(
    caller: Any, sleeps: bool
) -> None:
    if sleeps:
        await caller.stop()
    answer = await add_view(caller, "summary", "select regio from sales")
    assert fault(answer) == ("sql", "sql_error")
    message = answer.json()["errors"][0]["message"]
    assert message.startswith("No field named regio.")
    assert "sales.region" in message
    body = await added(caller, "summary", "select region, sum(amount) as total from sales group by region")
    assert (body["warnings"], body["view"]["validation"]) == ([], "checked")
    if sleeps:
        assert (await caller.status())["vmStatus"] == "paused"


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("select day from sales", '"Day"'),
        ("select sum(region) as n from sales", "sum"),
        ("select no_such_function(amount) as n from sales", "no_such_function"),
        ("select amount as n from sales union select region, amount from sales", "columns"),
        ("select * from sales where exists (select nope from sales s2)", "nope"),
        ("with s as (select nope from sales) select * from s", "nope"),
        ("select region as n from sales group by amount", "region"),
    ],
)
@pytest.mark.usefixtures("sales")
async def test_whatever_the_engine_cannot_plan_is_refused(caller: Any, sql: str, words: str) -> None:
    answer = await add_view(caller, "summary", sql)
    assert fault(answer)[0] == "sql", answer.text
    assert words in answer.json()["errors"][0]["message"]
    assert (await caller.http.get("/views")).json() == {"views": []}


async def test_a_view_over_what_nobody_has_read_is_accepted_with_a_word(caller: Any) -> None:
    await caller.add("sales", caller.parquet("sales", [{"region": "north"}]))
    body = await added(caller, "summary", "select nope from sales")
    assert body["view"]["validation"] == "deferred"
    assert body["warnings"] == [
        {
            "path": "sql",
            "message": "schema not checked: sales has not been read yet",
            "code": "schema_not_checked",
        }
    ]
    tables = {table["name"]: table for table in (await caller.http.get("/tables")).json()["tables"]}
    assert "nope" in tables["summary"]["error"]


async def test_a_view_without_tables_is_checked_in_a_lake_that_never_ran(caller: Any) -> None:
    assert fault(await add_view(caller, "v", "select 1 + true as x")) == ("sql", "sql_error")
    assert (await added(caller, "v", "select 1 as x"))["view"]["validation"] == "checked"
    assert fault(await add_view(caller, "w", "select y from v")) == ("sql", "sql_error")
    assert (await caller.status())["vmStatus"] == "not_provisioned"


@pytest.mark.usefixtures("sales")
async def test_a_view_that_others_read_does_not_lose_the_columns_that_they_name(caller: Any) -> None:
    await added(caller, "base", "select region, amount from sales")
    await added(caller, "top", "select sum(amount) as total from base")
    answer = await caller.http.put("/views/base", json={"sql": "select region from sales"})
    assert fault(answer) == ("sql", "view_broken")
    assert answer.json()["errors"][0]["message"].startswith("view 'top' could not be planned any more: ")
    both = {
        "updateViews": {
            "base": {"sql": "select region from sales"},
            "top": {"sql": "select region from base"},
        }
    }
    assert (await caller.http.patch("/config", json=both)).status_code == 200


@pytest.mark.usefixtures("sales")
async def test_replacing_a_dataset_defers_the_views_over_it_until_it_is_read(caller: Any) -> None:
    await added(caller, "summary", "select amount from sales")
    other = caller.parquet("other", [{"colour": "red"}])
    answer = await caller.http.put("/datasets/sales", json={"from": other})
    assert answer.status_code == 200, answer.text
    assert [(w["path"], w["code"]) for w in answer.json()["warnings"]] == [("from", "schema_not_checked")]
    assert (await caller.http.get("/views/summary")).json()["validation"] == "deferred"
    await caller.sql("select * from sales")
    answer = await caller.http.put("/views/summary", json={"sql": "select amount from sales"})
    assert fault(answer) == ("sql", "sql_error")
    assert (await caller.http.put("/views/summary", json={"sql": "select colour from sales"})).json()["view"][
        "validation"
    ] == "checked"


@pytest.mark.usefixtures("sales")
async def test_a_dataset_that_is_read_as_before_defers_nothing(caller: Any) -> None:
    await added(caller, "summary", "select amount from sales")
    answer = await caller.http.patch("/config", json={"updateDatasets": {"sales": {"description": "x"}}})
    assert answer.json()["warnings"] == []
    assert (await caller.http.get("/views/summary")).json()["validation"] == "checked"


@pytest.mark.usefixtures("sales")
async def test_a_column_without_a_name_is_told_with_the_name_that_it_gets(caller: Any) -> None:
    body = await added(caller, "summary", "select region, sum(amount) from sales group by region")
    assert [warning["message"] for warning in body["warnings"]] == [
        "column 2 has no name of its own, so it is called 'sum(sales.amount)': give it one with AS"
    ]
    assert await caller.rows("select * from summary") == [{"region": "north", "sum(sales.amount)": 2}]


@pytest.mark.usefixtures("sales")
async def test_two_columns_of_one_name_are_refused_also_where_a_star_makes_them(caller: Any) -> None:
    for sql in (
        "select region as x, amount as X from sales",
        "select a.region, b.region from sales a, sales b",
        "select * from sales a join sales b on a.region = b.region",
        "select sales.*, amount from sales",
    ):
        answer = await add_view(caller, "v", sql)
        assert fault(answer)[0] == "sql", sql
        assert answer.json()["errors"][0]["code"] in {"duplicate_column", "sql_error"}, sql


@pytest.mark.usefixtures("sales")
async def test_a_view_that_kills_its_planner_is_refused_and_the_next_one_is_planned(caller: Any) -> None:
    doubling = ", ".join(
        f"c{n} as (select * from c{n - 1} union all select * from c{n - 1})" for n in range(1, 40)
    )
    answer = await add_view(caller, "bomb", f"with c0 as (select 1 as x), {doubling} select * from c39")
    assert fault(answer) == ("sql", "query_too_complex")
    answer = await add_view(caller, "bomb", "select " + "+".join("1" * 4_000) + " as x")
    assert fault(answer) == ("sql", "query_too_complex")
    assert (await added(caller, "summary", "select amount from sales"))["view"]["validation"] == "checked"


async def test_somebody_elses_private_view_that_would_break_is_not_named(
    caller: Any, lake: Any, tenant_id: str
) -> None:
    await added(caller, "base", "select 1 as amount")
    await added(caller, "hidden", "select amount from base", visibility="private")
    async with lake.caller(tenant_id, subject="colleague") as colleague:
        answer = await colleague.http.put("/views/base", json={"sql": "select 1 as other"})
    assert fault(answer) == ("sql", "view_broken")
    assert answer.json()["errors"][0]["message"] == "a view that you cannot see could not be planned any more"


async def test_columns_of_another_tenant_are_not_borrowed(caller: Any, other: Any, sales: str) -> None:
    await other.add("sales", f"file:{Path(caller.parquet('sales', [{'x': 1}]).removeprefix('file:'))}")
    assert (await added(other, "v", f"select region from {sales}"))["view"]["validation"] == "deferred"
