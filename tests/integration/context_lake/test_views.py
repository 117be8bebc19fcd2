"""The view routes as a client sees them, and views as the runtime has them."""

from typing import Any

import pytest


async def add_view(caller: Any, name: str, sql: str, **more: Any) -> Any:
    return await caller.http.post("/views", json={"name": name, "sql": sql, **more})


async def added(caller: Any, name: str, sql: str, **more: Any) -> dict[str, Any]:
    answer = await add_view(caller, name, sql, **more)
    assert answer.status_code == 201, answer.text
    return answer.json()


def fault(answer: Any) -> tuple[str, str]:
    assert answer.status_code == 400, answer.text
    [error] = answer.json()["errors"]
    return error["path"], error["code"]


@pytest.fixture
async def sales(caller: Any) -> str:
    rows = [{"region": "north", "amount": 2}, {"region": "south", "amount": 3}]
    await caller.add("sales", caller.parquet("sales", rows))
    return "sales"


async def test_a_view_is_added_listed_shown_replaced_and_removed(caller: Any, sales: str) -> None:
    answer = await add_view(caller, "Summary", "select region from sales", description="x")
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == "/v1/context-lake/views/Summary"
    view = answer.json()["view"]
    assert (view["name"], view["visibility"], view["createdBy"]) == ("Summary", "shared", "user:tester")
    assert (await caller.http.get("/views")).json() == {"views": [view]}
    assert (await caller.http.get("/views/summary")).json() == view
    again = await caller.http.put("/views/SUMMARY", json=view)
    assert again.status_code == 200, again.text
    assert again.json()["view"]["description"] == "x"
    other = await caller.http.put("/views/summary", json={"sql": "select 1 as one"})
    assert other.json()["view"]["sql"] == "select 1 as one"
    assert "description" not in other.json()["view"]
    assert (await caller.http.delete("/views/summary")).json() == {"ok": True, "version": 5}
    for method in ("GET", "DELETE", "PUT"):
        gone = await caller.http.request(
            method, "/views/summary", json={"sql": "select 1 as one"} if method == "PUT" else None
        )
        assert (gone.status_code, gone.json()["code"]) == (404, "view_not_found")


async def test_views_over_views_are_queried_in_any_order_of_their_names(caller: Any, sales: str) -> None:
    await added(caller, "b_base", "select region, amount from Sales")
    await added(caller, "a_top", "select sum(amount) as total from b_base")
    await added(caller, "c_top", 'select total * 2 as twice from "a_top"')
    assert await caller.rows("select twice from c_top") == [{"twice": 10}]
    changed = await caller.http.put("/views/b_base", json={"sql": "select 1 as region, 7 as amount"})
    assert changed.status_code == 200, changed.text
    assert await caller.rows("select twice from c_top") == [{"twice": 14}]


async def test_a_name_is_in_use_whether_by_a_view_or_a_dataset(caller: Any, sales: str) -> None:
    answer = await add_view(caller, "SALES", "select 1 as one")
    assert (answer.status_code, answer.json()["code"]) == (409, "name_conflict")
    await added(caller, "summary", "select 1 as one")
    answer = await caller.http.post("/datasets", json={"name": "Summary", "from": "file:a.csv"})
    assert (answer.status_code, answer.json()["code"]) == (409, "name_conflict")


async def test_an_unknown_table_is_refused_with_the_likely_one(caller: Any, sales: str) -> None:
    answer = await add_view(caller, "summary", "select * from sale")
    assert fault(answer) == ("sql", "unknown_table")
    assert answer.json()["errors"][0]["message"] == (
        "view 'summary' refers to 'sale', which is neither a dataset nor a view; did you mean 'sales'?"
    )


@pytest.mark.parametrize("schema", ["information_schema", "runtime", "INFORMATION_SCHEMA"])
async def test_the_runtimes_own_schemas_are_not_for_views(caller: Any, schema: str) -> None:
    answer = await add_view(caller, "summary", f"select * from {schema}.tables")
    assert {error["code"] for error in answer.json()["errors"]} == {"relation_not_allowed"}


async def test_a_view_that_reads_itself_is_refused(caller: Any) -> None:
    answer = await add_view(caller, "a", "select * from a")
    assert fault(answer) == ("sql", "circular_view")
    assert "a → a" in answer.json()["errors"][0]["message"]


async def test_circles_of_two_and_of_three_are_refused_with_their_path(caller: Any) -> None:
    await added(caller, "a", "select 1 as x")
    await added(caller, "b", "select * from a")
    await added(caller, "c", "select * from b")
    for last, way in (("b", "a → b → a"), ("c", "a → c → b → a")):
        answer = await caller.http.put("/views/a", json={"sql": f"select * from {last}"})
        assert fault(answer) == ("sql", "circular_view")
        assert way in answer.json()["errors"][0]["message"]


async def test_views_are_at_most_sixteen_deep(caller: Any) -> None:
    await added(caller, "v1", "select 1 as x")
    for n in range(2, 17):
        await added(caller, f"v{n}", f"select * from v{n - 1}")
    assert fault(await add_view(caller, "v17", "select * from v16")) == ("sql", "view_too_deep")
    await added(caller, "v0", "select 1 as x")
    assert fault(await caller.http.put("/views/v1", json={"sql": "select * from v0"})) == (
        "sql",
        "view_too_deep",
    )


@pytest.mark.parametrize(
    ("body", "path", "code"),
    [
        ({"sql": "select 1 as x"}, "name", "required"),
        ({"name": "v"}, "sql", "required"),
        ({"name": "v", "sql": "  "}, "sql", "required"),
        ({"name": "1v", "sql": "select 1 as x"}, "name", "invalid_name"),
        ({"name": "v", "sql": "drop table v"}, "sql", "not_a_query"),
        ({"name": "v", "sql": "select 1 as x; select 2 as x"}, "sql", "multiple_statements"),
        ({"name": "v", "sql": "select 'a" + "b" * 270_000 + "'"}, "sql", "limit_exceeded"),
        ({"name": "v", "sql": "select 1 as \0x"}, "sql", "invalid"),
        ({"name": "v", "sql": "select 1 as x", "refresh": "2m"}, "refresh", "invalid"),
        (
            {"name": "v", "sql": "select 1 as x", "acceleration": {"refresh_mode": "changes"}},
            "acceleration.refresh_mode",
            "not_available",
        ),
        ({"name": "v", "sql": "select 1 as x", "visibility": "secret"}, "visibility", "invalid"),
        ({"name": "v", "sql": "select 1 as x", "colour": 1}, "colour", "unknown_field"),
    ],
)
async def test_what_is_wrong_with_a_view_is_told_at_its_field(
    caller: Any, body: dict[str, Any], path: str, code: str
) -> None:
    assert fault(await caller.http.post("/views", json=body)) == (path, code)


async def test_a_relation_that_is_read_is_not_removed_unless_what_reads_it_goes_too(
    caller: Any, sales: str
) -> None:
    await added(caller, "base", "select * from sales")
    await added(caller, "top", "select * from base")
    answer = await caller.http.delete("/datasets/sales")
    assert (answer.status_code, answer.json()["code"]) == (409, "dataset_in_use")
    assert answer.json()["error"] == "Dataset 'sales' is used by 2 views"
    assert answer.json()["dependents"] == ["base", "top"]
    answer = await caller.http.delete("/views/base")
    assert (answer.status_code, answer.json()["code"]) == (409, "view_in_use")
    assert answer.json()["dependents"] == ["top"]
    answer = await caller.http.delete("/views/base?cascade=true")
    assert answer.json() == {"ok": True, "version": 4, "removed": {"views": ["top"]}}
    await added(caller, "base", "select * from sales")
    answer = await caller.http.delete("/datasets/sales?cascade=true")
    assert answer.json() == {"ok": True, "version": 6, "removed": {"views": ["base"]}}
    assert (await caller.http.get("/views")).json() == {"views": []}


async def test_another_tenants_view_is_not_found(caller: Any, other: Any) -> None:
    await added(caller, "summary", "select 1 as one")
    assert (await other.http.get("/views/summary")).status_code == 404
    assert (await other.http.get("/views")).json() == {"views": []}
    assert fault(await add_view(other, "mine", "select * from summary")) == ("sql", "unknown_table")


async def test_a_quoted_name_is_found_in_its_own_letters_or_in_small_ones(caller: Any) -> None:
    await caller.add("Sales", caller.parquet("Sales", [{"x": 1}]))
    for n, name in enumerate(('"Sales"', '"sales"', "SALES", "public.Sales", 'public."Sales"')):
        await added(caller, f"v{n}", f"select x from {name}")
        assert await caller.rows(f"select x from v{n}") == [{"x": 1}]
    for name in ('"SALES"', 'public."sAles"'):
        answer = await add_view(caller, "wrong", f"select x from {name}")
        assert fault(answer) == ("sql", "unknown_table")
        assert "did you mean 'Sales'?" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    "sql",
    [
        "select 1 as one where exists (select 1 from sales)",
        "select (select max(amount) from sales) as most",
        "select 1 as one union all select amount from sales",
        "with s as (select * from sales) select amount from s",
        'select amount from "sales"',
        "select one from (select 1 as one) t where one in (select amount from Sales)",
    ],
)
async def test_what_a_view_reads_in_any_place_keeps_the_dataset(caller: Any, sales: str, sql: str) -> None:
    """Sub-queries, set operations, CTE bodies and quoted names are dependencies like any other."""
    await added(caller, "v", sql)
    answer = await caller.http.delete(f"/datasets/{sales}")
    assert (answer.status_code, answer.json()["dependents"]) == (409, ["v"])


async def test_a_name_that_a_with_gives_hides_the_dataset_and_keeps_it_not(caller: Any, sales: str) -> None:
    await added(caller, "v", "with sales as (select 7 as amount) select amount from sales")
    assert await caller.rows("select amount from v") == [{"amount": 7}]
    assert (await caller.http.delete(f"/datasets/{sales}")).status_code == 200
