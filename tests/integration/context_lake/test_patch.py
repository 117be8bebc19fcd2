"""PATCH /config: every operation or none."""

import asyncio
from typing import Any

import pytest
from tests.unit.context_lake.conftest import s3


async def patch(caller: Any, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = await caller.http.patch("/config", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def faults(caller: Any, body: dict[str, Any]) -> list[tuple[str, str]]:
    """Path and code of every fault; proves that nothing was changed."""
    before = (await caller.http.get("/config")).json()
    answer = await caller.http.patch("/config", json=body)
    assert answer.status_code == 400, answer.text
    assert (await caller.http.get("/config")).json() == before
    return [(error["path"], error["code"]) for error in answer.json()["errors"]]


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "from": f"file:{name}.csv", **more}


def view(name: str, sql: str) -> dict[str, Any]:
    return {"name": name, "sql": sql}


async def datasets(caller: Any) -> dict[str, Any]:
    return {dataset["name"]: dataset for dataset in (await caller.http.get("/datasets")).json()["datasets"]}


async def test_a_patch_tells_what_it_changed(caller: Any) -> None:
    await patch(
        caller, {"addDatasets": [named("old"), named("kept")], "addViews": [view("v", "select 1 as x")]}
    )
    body = await patch(
        caller,
        {
            "addDatasets": [named("new")],
            "removeDatasets": ["OLD"],
            "updateDatasets": {"kept": {"description": "x"}},
            "addViews": [view("w", "select 2 as x")],
            "removeViews": ["v"],
        },
    )
    assert body == {
        "ok": True,
        "version": 2,
        "changes": {
            "datasets": {"added": ["new"], "removed": ["old"], "updated": ["kept"]},
            "views": {"added": ["w"], "removed": ["v"], "updated": []},
        },
        "warnings": [],
        "notifications": {},
    }


@pytest.mark.parametrize("body", [{}, {"addDatasets": [], "updateViews": {}}])
async def test_an_empty_patch_keeps_the_version(caller: Any, body: dict[str, Any]) -> None:
    await caller.add("a", "file:a.csv")
    answer = await patch(caller, body)
    nothing = {"added": [], "removed": [], "updated": []}
    assert answer["version"] == 1
    assert answer["changes"] == {"datasets": nothing, "views": nothing}


async def test_removing_and_adding_one_name_replaces_it_and_drops_its_secrets(caller: Any) -> None:
    await patch(caller, {"addDatasets": [s3()]})
    await patch(caller, {"removeDatasets": ["sales"], "addDatasets": [named("sales")]})
    assert (await datasets(caller))["sales"]["from"] == "file:sales.csv"
    async with caller.database.tenant(caller.tenant_id) as connection:
        assert await connection.fetchval("select count(*) from lake_secrets") == 0


async def test_removing_and_adding_with_the_references_keeps_the_secrets(caller: Any) -> None:
    await patch(caller, {"addDatasets": [s3()]})
    again = (await datasets(caller))["sales"]
    await patch(caller, {"removeDatasets": ["sales"], "addDatasets": [again]})
    async with caller.database.tenant(caller.tenant_id) as connection:
        assert await connection.fetchval("select count(*) from lake_secrets") == 2


async def test_an_update_sees_what_the_same_patch_adds(caller: Any) -> None:
    broken = s3(s3_key=None)
    await patch(caller, {"addDatasets": [broken], "updateDatasets": {"sales": {"params": {}}}})
    assert (await datasets(caller))["sales"]["params"] == {}
    assert (await datasets(caller))["sales"]["from"] == broken["from"]


async def test_a_fault_is_told_where_its_field_was_last_sent(caller: Any) -> None:
    found = await faults(
        caller, {"addDatasets": [s3(s3_key=None)], "updateDatasets": {"sales": {"description": "x"}}}
    )
    assert found == [("addDatasets[0].params.s3_key", "required")]
    found = await faults(
        caller,
        {"addDatasets": [named("a")], "updateDatasets": {"a": {"params": {"csv_delimiter": "||"}}}},
    )
    assert found == [("updateDatasets.a.params.csv_delimiter", "invalid")]


async def test_updated_params_are_replaced_whole_with_a_word_about_lost_credentials(caller: Any) -> None:
    await patch(caller, {"addDatasets": [s3()]})
    body = await patch(caller, {"updateDatasets": {"sales": {"params": {"file_format": "csv"}}}})
    assert (await datasets(caller))["sales"]["params"] == {"file_format": "csv"}
    told = {warning["path"]: warning["message"] for warning in body["warnings"]}
    assert told["updateDatasets.sales.params"] == "credential parameters s3_key, s3_secret were removed"


async def test_null_is_the_default_again_but_not_for_what_is_required(caller: Any) -> None:
    await patch(caller, {"addDatasets": [named("a", description="x", visibility="private")]})
    await patch(caller, {"updateDatasets": {"a": {"description": None, "visibility": None, "params": None}}})
    after = (await datasets(caller))["a"]
    assert ("description" in after, after["visibility"]) == (False, "shared")
    assert await faults(caller, {"updateDatasets": {"a": {"from": None}}}) == [
        ("updateDatasets.a.from", "required")
    ]


async def test_an_update_keeps_what_it_does_not_name(caller: Any) -> None:
    await patch(caller, {"addDatasets": [s3() | {"description": "x"}]})
    await patch(caller, {"updateDatasets": {"SALES": {"from": "s3://bucket/other.parquet"}}})
    after = (await datasets(caller))["sales"]
    assert (after["description"], after["params"]["s3_key"]) == ("x", "${secrets:ds.sales.s3_key}")


async def test_a_view_is_updated_field_by_field(caller: Any) -> None:
    await patch(caller, {"addViews": [view("v", "select 1 as x") | {"description": "d"}]})
    await patch(caller, {"updateViews": {"V": {"sql": "select 2 as x"}}})
    after = (await caller.http.get("/views/v")).json()
    assert (after["name"], after["sql"], after["description"]) == ("v", "select 2 as x", "d")


async def test_a_view_uses_a_dataset_of_the_same_patch(caller: Any) -> None:
    await patch(caller, {"addViews": [view("v", "select * from a")], "addDatasets": [named("a")]})


async def test_a_dataset_goes_with_the_views_that_use_it_or_when_they_turn_away(caller: Any) -> None:
    await patch(
        caller,
        {
            "addDatasets": [named("a")],
            "addViews": [view("v", "select * from a"), view("w", "select * from a")],
        },
    )
    found = await faults(caller, {"removeDatasets": ["a"], "removeViews": ["v"]})
    assert found == [("removeDatasets[0]", "dataset_in_use")]
    body = {"removeDatasets": ["a"], "removeViews": ["v"], "updateViews": {"w": {"sql": "select 1 as x"}}}
    await patch(caller, body)


BEFORE = {"addDatasets": [named("a"), named("b")], "addViews": [view("v", "select * from a")]}
CASES: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "remove and update of one name": (
        {"removeDatasets": ["b"], "updateDatasets": {"b": {"description": "x"}}},
        [("updateDatasets.b", "not_found")],
    ),
    "a name in use": ({"addDatasets": [named("A")]}, [("addDatasets[0].name", "conflict")]),
    "one name added twice": (
        {"addDatasets": [named("c"), named("C")]},
        [("addDatasets[1].name", "duplicate")],
    ),
    "one name removed twice": (
        {"removeDatasets": ["b", "B"]},
        [("removeDatasets[1]", "duplicate")],
    ),
    "one name updated twice": (
        {"updateDatasets": {"b": {"description": "x"}, "B": {"description": "y"}}},
        [("updateDatasets.B", "duplicate")],
    ),
    "unknown names": (
        {
            "removeDatasets": ["x"],
            "updateDatasets": {"y": {}},
            "removeViews": ["z"],
            "updateViews": {"w": {}},
        },
        [
            ("removeDatasets[0]", "not_found"),
            ("updateDatasets.y", "not_found"),
            ("removeViews[0]", "not_found"),
            ("updateViews.w", "not_found"),
        ],
    ),
    "a dataset with a view's name": ({"addDatasets": [named("v")]}, [("addDatasets[0].name", "conflict")]),
    "a view with the name of a dataset of the patch": (
        {"addDatasets": [named("c")], "addViews": [view("c", "select 1 as x")]},
        [("addViews[0].name", "conflict")],
    ),
    "a new name in an update": (
        {"updateDatasets": {"b": {"name": "c"}}},
        [("updateDatasets.b.name", "rename_not_supported")],
    ),
    "an unknown field in an item": (
        {"addDatasets": [named("c"), named("d", colour=1)]},
        [("addDatasets[1].colour", "unknown_field")],
    ),
    "an unknown operation": ({"renameDatasets": {}}, [("renameDatasets", "unknown_field")]),
    "a field of another type": (
        {"updateDatasets": {"b": {"params": 5}}},
        [("updateDatasets.b.params", "invalid")],
    ),
    "no name and no source, twice": (
        {"addDatasets": [{}, {}]},
        [
            ("addDatasets[0].from", "required"),
            ("addDatasets[0].name", "required"),
            ("addDatasets[1].from", "required"),
            ("addDatasets[1].name", "required"),
        ],
    ),
    "views in a circle": (
        {"addViews": [view("x", "select * from y"), view("y", "select * from x")]},
        [("addViews[0].sql", "circular_view")],
    ),
    "a view over what the patch removes": (
        {"removeDatasets": ["b"], "addViews": [view("x", "select * from b")]},
        [("addViews[0].sql", "unknown_table")],
    ),
    "faults in the order of the document": (
        {
            "updateViews": {"v": {"sql": "drop table a"}},
            "addDatasets": [named("1c"), s3(s3_secret=None, nope="x") | {"name": "c"}],
            "removeDatasets": ["x"],
        },
        [
            ("updateViews.v.sql", "not_a_query"),
            ("addDatasets[0].name", "invalid_name"),
            ("addDatasets[1].params.nope", "unknown_param"),
            ("addDatasets[1].params.s3_secret", "required"),
            ("removeDatasets[0]", "not_found"),
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_patch_with_a_fault_changes_nothing_and_says_where(caller: Any, case: str) -> None:
    await patch(caller, BEFORE)
    body, expected = CASES[case]
    assert await faults(caller, body) == expected


@pytest.mark.parametrize("position", range(6))
async def test_a_fault_at_any_position_undoes_the_whole_patch(caller: Any, position: int) -> None:
    await patch(caller, BEFORE)
    wrong: list[dict[str, Any]] = [
        {"addDatasets": [named("1bad")]},
        {"removeDatasets": ["absent"]},
        {"updateDatasets": {"absent": {}}},
        {"addViews": [view("w", "select * from absent")]},
        {"removeViews": ["absent"]},
        {"updateViews": {"absent": {}}},
    ]
    body: dict[str, Any] = {"addDatasets": [named("c")], "removeDatasets": ["b"]}
    for operation, value in wrong[position].items():
        body[operation] = body[operation] + value if operation in body else value
    assert len(await faults(caller, body)) == 1


async def test_two_writers_at_once_are_served_one_after_the_other(caller: Any) -> None:
    await asyncio.gather(*(patch(caller, {"addDatasets": [named(f"t{n}")]}) for n in range(8)))
    assert len(await datasets(caller)) == 8


async def test_what_is_only_validated_is_not_kept(caller: Any) -> None:
    tried = await caller.http.post("/datasets?validateOnly=true", json=s3())
    assert (tried.status_code, tried.json()["version"]) == (200, 0)
    assert tried.json()["dataset"]["params"]["s3_key"] == "${secrets:ds.sales.s3_key}"
    assert "location" not in tried.headers
    body = {"addDatasets": [named("a")], "addViews": [view("v", "select * from a")]}
    tried = await caller.http.patch("/config?validateOnly=true", json=body)
    assert tried.json()["changes"]["views"]["added"] == ["v"]
    assert (
        await caller.http.patch("/config?validateOnly=true", json=CASES["a name in use"][0])
    ).status_code == 200
    assert (
        await caller.http.post("/views?validateOnly=true", json=view("v", "select * from a"))
    ).status_code == 400
    assert (await caller.http.get("/config")).json()["version"] == 0


async def test_lists_come_in_pages(caller: Any) -> None:
    await patch(caller, {"addDatasets": [named(f"t{n}") for n in range(5)] + [s3()]})
    names: list[str] = []
    query = "limit=2"
    while True:
        page = (await caller.http.get(f"/datasets?{query}")).json()
        names += [dataset["name"] for dataset in page["datasets"]]
        if "nextCursor" not in page:
            break
        query = f"limit=2&cursor={page['nextCursor']}"
    assert names == ["sales", "t0", "t1", "t2", "t3", "t4"]
    only = (await caller.http.get("/datasets?connector=s3")).json()["datasets"]
    assert [dataset["name"] for dataset in only] == ["sales"]
    for query in ("limit=0", "limit=1001", "limit=x", "cursor=%ff", "cursor=é"):
        assert (await caller.http.get(f"/datasets?{query}")).status_code == 400, query


async def test_the_document_of_the_api_tells_of_every_route_and_its_conditions(
    lake: Any, caller: Any
) -> None:
    document = (await caller.http.get(f"{lake.url}/schema/openapi.json")).json()
    paths = {path.removeprefix("/v1/context-lake"): set(item) for path, item in document["paths"].items()}
    assert paths["/config"] == {"get", "patch"}
    assert paths["/config/versions"] == {"get"}
    assert paths["/config/rollback"] == {"post"}
    assert paths["/views"] == {"get", "post"}
    assert paths["/views/{name}"] == {"get", "put", "delete"}
    described = document["paths"]["/v1/context-lake/config"]["patch"]["parameters"]
    assert {parameter["name"] for parameter in described} == {"If-Match", "Idempotency-Key", "validateOnly"}
