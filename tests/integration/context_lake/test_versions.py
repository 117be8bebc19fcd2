"""Versions of a lake: history, going back, conditions, and requests that come again."""

import asyncio
from typing import Any

import pytest
import yaml
from tests.unit.context_lake.conftest import s3

from weir.context_lake import jobs
from weir.context_lake.tables.lakes import KEPT_VERSIONS


async def version(caller: Any) -> int:
    return (await caller.http.get("/config")).json()["version"]


async def test_every_version_is_kept_with_its_author_and_reason(caller: Any) -> None:
    await caller.add("a", "file:a.csv")
    await caller.http.patch("/config", json={"updateDatasets": {"a": {"description": "x"}}})
    await caller.http.delete("/datasets/a")
    listed = (await caller.http.get("/config/versions")).json()["versions"]
    assert [(entry["version"], entry["reason"]) for entry in listed] == [
        (3, "dataset removed"),
        (2, "patched"),
        (1, "dataset added"),
    ]
    assert {entry["author"] for entry in listed} == {"user:tester"}
    assert all(entry["createdAt"].endswith("Z") for entry in listed)
    one = (await caller.http.get("/config/versions/2")).json()
    assert one["config"]["datasets"] == [{"from": "file:a.csv", "name": "a", "description": "x"}]
    assert yaml.safe_load(one["yaml"]) == one["config"]


async def test_versions_come_in_pages(caller: Any) -> None:
    for name in "abc":
        await caller.add(name, f"file:{name}.csv")
    first = (await caller.http.get("/config/versions?limit=2")).json()
    second = (await caller.http.get(f"/config/versions?limit=2&cursor={first['nextCursor']}")).json()
    assert [entry["version"] for entry in first["versions"] + second["versions"]] == [3, 2, 1]
    assert "nextCursor" not in second
    assert (await caller.http.get("/config/versions?cursor=x")).status_code == 400


async def test_a_hundred_versions_are_kept(caller: Any) -> None:
    for n in range(KEPT_VERSIONS + 3):
        await caller.http.patch("/config", json={f"{'remove' if n % 2 else 'add'}Views": _toggle(n)})
    listed = (await caller.http.get("/config/versions?limit=1000")).json()["versions"]
    assert [entry["version"] for entry in listed] == list(range(KEPT_VERSIONS + 3, 3, -1))
    gone = await caller.http.get("/config/versions/3")
    assert (gone.status_code, gone.json()["code"]) == (404, "version_not_found")


def _toggle(n: int) -> list[Any]:
    return ["v"] if n % 2 else [{"name": "v", "sql": "select 1 as x"}]


@pytest.mark.parametrize("number", ["0", "-1", "7", "99999999999999"])
async def test_a_version_that_is_not_there_is_404(caller: Any, number: str) -> None:
    await caller.add("a", "file:a.csv")
    assert (await caller.http.get(f"/config/versions/{number}")).status_code == 404
    answer = await caller.http.post("/config/rollback", json={"version": int(number)})
    assert (answer.status_code, answer.json()["code"]) == (404, "version_not_found")


async def test_going_back_makes_a_new_version_of_the_old_document(caller: Any) -> None:
    await caller.add("a", "file:a.csv")
    await caller.http.post("/views", json={"name": "v", "sql": "select * from a"})
    before = (await caller.http.get("/config")).json()
    await caller.http.patch(
        "/config", json={"removeViews": ["v"], "removeDatasets": ["a"], "addDatasets": [s3()]}
    )
    answer = await caller.http.post("/config/rollback", json={"version": 2})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "ok": True,
        "version": 4,
        "changes": {
            "datasets": {"added": ["a"], "removed": ["sales"], "updated": []},
            "views": {"added": ["v"], "removed": [], "updated": []},
        },
        "warnings": [],
    }
    after = (await caller.http.get("/config")).json()
    assert after["yaml"] == before["yaml"]
    listed = (await caller.http.get("/config/versions")).json()["versions"]
    assert listed[0]["reason"] == "rolled back to version 2"


async def test_going_back_to_secrets_that_are_gone_is_refused_and_names_them(caller: Any) -> None:
    await caller.http.post("/datasets", json=s3())
    await caller.http.delete("/datasets/sales")
    answer = await caller.http.post("/config/rollback", json={"version": 1})
    assert answer.status_code == 400, answer.text
    assert [error["message"] for error in answer.json()["errors"]] == [
        "version 1 needs the secret ds.sales.s3_key, which is gone",
        "version 1 needs the secret ds.sales.s3_secret, which is gone",
    ]


async def test_reads_carry_the_version_as_their_tag(caller: Any) -> None:
    await caller.add("a", "file:a.csv")
    await caller.http.post("/views", json={"name": "v", "sql": "select * from a"})
    for path in ("/config", "/datasets", "/datasets/a", "/views", "/views/v"):
        assert (await caller.http.get(path)).headers["etag"] == '"v2"', path


async def test_a_change_on_an_older_version_is_412_on_every_route(caller: Any) -> None:
    await caller.add("a", "file:a.csv")
    await caller.http.post("/views", json={"name": "v", "sql": "select 1 as x"})
    body = {"name": "n", "from": "file:n.csv", "sql": "select 2 as x"}
    dataset, view = ({name: body[name] for name in names} for names in (("name", "from"), ("name", "sql")))
    changes: list[tuple[str, str, Any]] = [
        ("POST", "/datasets", dataset),
        ("PUT", "/datasets/a", {"from": "file:b.csv"}),
        ("DELETE", "/datasets/a", None),
        ("POST", "/views", view),
        ("PUT", "/views/v", {"sql": "select 2 as x"}),
        ("DELETE", "/views/v", None),
        ("PATCH", "/config", {"addDatasets": [dataset]}),
        ("POST", "/config/rollback", {"version": 1}),
    ]
    for tag in ('"v1"', 'W/"v2"', '"other"', '"v1", "v3"'):
        for method, path, content in changes:
            answer = await caller.http.request(method, path, json=content, headers={"If-Match": tag})
            assert (answer.status_code, answer.json()["code"]) == (412, "version_conflict"), (method, path)
            assert answer.headers["etag"] == '"v2"'
    assert await version(caller) == 2
    for tag in ('"v2"', "*", '"v9", "v4"'):
        answer = await caller.http.patch(
            "/config", json={"updateDatasets": {"a": {"description": tag}}}, headers={"If-Match": tag}
        )
        assert answer.status_code == 200, answer.text


async def test_of_two_writers_on_one_version_one_wins(caller: Any) -> None:
    await caller.add("a", "file:a.csv")
    answers = await asyncio.gather(
        *(
            caller.http.put("/datasets/a", json={"from": f"file:{n}.csv"}, headers={"If-Match": '"v1"'})
            for n in range(6)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 5


class TestTheSameRequestAgain:
    async def test_has_the_same_answer_and_one_effect(self, caller: Any) -> None:
        key = {"Idempotency-Key": "k1"}
        body = {"name": "a", "from": "file:a.csv"}
        first = await caller.http.post("/datasets", json=body, headers=key)
        again = await caller.http.post("/datasets", json=body, headers=key)
        assert (again.status_code, again.content) == (201, first.content)
        for header in ("location", "etag", "content-type"):
            assert again.headers[header] == first.headers[header]
        assert await version(caller) == 1

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("PUT", "/datasets/a", {"from": "file:b.csv"}),
            ("DELETE", "/datasets/a", None),
            ("POST", "/views", {"name": "v", "sql": "select * from a"}),
            ("PATCH", "/config", {"removeDatasets": ["a"]}),
            ("POST", "/config/rollback", {"version": 1}),
        ],
    )
    async def test_is_known_on_every_route(self, caller: Any, method: str, path: str, body: Any) -> None:
        await caller.add("a", "file:a.csv")
        key = {"Idempotency-Key": "k" * 128}
        answers = [await caller.http.request(method, path, json=body, headers=key) for _ in range(2)]
        assert answers[0].status_code in (200, 201), answers[0].text
        assert answers[0].content == answers[1].content
        assert await version(caller) == 2

    async def test_with_another_body_or_path_is_refused(self, caller: Any) -> None:
        key = {"Idempotency-Key": "k1"}
        body = {"name": "a", "from": "file:a.csv"}
        await caller.http.post("/datasets", json=body, headers=key)
        others = [
            await caller.http.post("/datasets", json=body | {"description": "x"}, headers=key),
            await caller.http.post("/datasets?validateOnly=true", json=body, headers=key),
            await caller.http.delete("/datasets/a", headers=key),
        ]
        assert {(answer.status_code, answer.json()["code"]) for answer in others} == {
            (409, "idempotency_key_reuse")
        }

    async def test_at_the_same_time_has_one_effect(self, caller: Any) -> None:
        body = {"name": "a", "from": "file:a.csv"}
        answers = await asyncio.gather(
            *(caller.http.post("/datasets", json=body, headers={"Idempotency-Key": "k1"}) for _ in range(12))
        )
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        assert await version(caller) == 1

    async def test_is_another_request_when_it_comes_from_somebody_else(self, caller: Any, other: Any) -> None:
        body = {"name": "a", "from": "file:a.csv"}
        for one in (caller, other):
            answer = await one.http.post("/datasets", json=body, headers={"Idempotency-Key": "k1"})
            assert answer.status_code == 201
        assert await version(other) == 1

    async def test_after_a_failure_is_tried_anew(self, caller: Any) -> None:
        key = {"Idempotency-Key": "k1"}
        body = {"name": "v", "sql": "select * from a"}
        assert (await caller.http.post("/views", json=body, headers=key)).status_code == 400
        await caller.add("a", "file:a.csv")
        assert (await caller.http.post("/views", json=body, headers=key)).status_code == 201

    @pytest.mark.parametrize("key", ["", "k" * 129])
    async def test_needs_a_key_of_a_sensible_length(self, caller: Any, key: str) -> None:
        answer = await caller.http.patch("/config", json={}, headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, "Idempotency-Key")

    async def test_is_forgotten_after_a_day(self, caller: Any, lake: Any) -> None:
        key = {"Idempotency-Key": "k1"}
        await caller.http.patch("/config", json={"addViews": _toggle(0)}, headers=key)
        async with caller.database.any_tenant() as connection:
            await connection.execute(
                "update lake_answers set created_at = now() - interval '25 hours' where tenant_id = $1",
                caller.tenant_id,
            )
        answer = await caller.http.patch("/config", json={"addViews": _toggle(0)}, headers=key)
        assert answer.status_code == 400
        answer = await caller.http.patch("/config", json={"removeViews": ["v"]}, headers=key)
        assert answer.status_code == 200
        async with caller.database.any_tenant() as connection:
            await connection.execute("update lake_answers set created_at = now() - interval '25 hours'")
        await jobs.forget_answers_any({jobs.PART: caller})
        async with caller.database.any_tenant() as connection:
            assert await connection.fetchval("select count(*) from lake_answers") == 0


async def test_the_configuration_is_had_as_yaml_alone(caller: Any) -> None:
    await caller.http.post("/datasets", json=s3())
    await caller.http.post("/views", json={"name": "v", "sql": "select *\nfrom sales"})
    whole = (await caller.http.get("/config")).json()
    answer = await caller.http.get("/config", headers={"Accept": "application/yaml"})
    assert answer.headers["content-type"].startswith("application/yaml")
    assert answer.text == whole["yaml"]
    assert yaml.safe_load(answer.text) == whole["config"]
    assert answer.headers["etag"] == '"v2"'
