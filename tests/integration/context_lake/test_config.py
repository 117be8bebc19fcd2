"""The configuration as a document, its limits, and what holds on every route of the catalogue."""

from typing import Any

import pytest
import yaml
from tests.unit.context_lake.conftest import s3


async def test_config_empty_tenant(caller: Any) -> None:
    answer = await caller.http.get("/config")
    body = answer.json()
    assert (answer.status_code, answer.headers["etag"]) == (200, '"v0"')
    assert (body["config"]["datasets"], body["config"]["views"], body["version"]) == ([], [], 0)
    assert yaml.safe_load(body["yaml"]) == body["config"]


RICH = {
    "addDatasets": [
        s3() | {"description": "all: sales\n# no comment\n", "visibility": "public"},
        {
            "name": "Shop.Orders",
            "from": "file:a.csv",
            "metadata": {"owner": "x", "tags": ["y", None, 1.5, True]},
        },
        {"name": "b", "from": "file:b.csv", "params": {"csv_delimiter": "\t", "csv_has_header": False}},
    ],
    "addViews": [
        {"name": "v", "sql": "select 1 as x\n  from sales\n", "description": "yes"},
        {"name": "w", "sql": "select '\u2028é: \"' as y", "metadata": {"0x1f": "~"}},
    ],
}


async def test_yaml_roundtrip_equals_config(caller: Any) -> None:
    """The YAML is the config, twice the same, and its items make the same lake when they are sent again."""
    assert (await caller.http.patch("/config", json=RICH)).status_code == 200
    before = (await caller.http.get("/config")).json()
    assert list(before["config"]) == ["version", "kind", "name", "datasets", "views"]
    read = yaml.safe_load(before["yaml"])
    assert read == before["config"]
    assert (await caller.http.get("/config")).json()["yaml"] == before["yaml"]
    again = {
        "removeDatasets": [item["name"] for item in read["datasets"]],
        "removeViews": [item["name"] for item in read["views"]],
        "addDatasets": read["datasets"],
        "addViews": read["views"],
    }
    answer = await caller.http.patch("/config", json=again)
    assert answer.status_code == 200, answer.text
    after = (await caller.http.get("/config")).json()
    assert (after["yaml"], after["version"]) == (before["yaml"], 2)


async def test_a_dotted_name_is_addressed_by_its_path_and_in_a_patch(caller: Any) -> None:
    await caller.add("shop.Orders", "file:a.csv")
    assert (await caller.http.get("/datasets/SHOP.orders")).json()["name"] == "shop.Orders"
    body = {"updateDatasets": {"shop.orders": {"params": {"csv_delimiter": "||"}}}}
    answer = await caller.http.patch("/config", json=body)
    assert [e["path"] for e in answer.json()["errors"]] == ["updateDatasets.shop.orders.params.csv_delimiter"]
    assert (await caller.http.delete("/datasets/shop.orders")).status_code == 200


async def test_a_percent_encoded_path_name_is_decoded_once(caller: Any) -> None:
    await caller.add("Sales", "file:a.csv")
    for path in ("%53ales", "s%61les", "%50ublic.sales".lower(), "SALES"):
        answer = await caller.http.get(f"{caller.http.base_url}datasets/{path}")
        assert answer.status_code == 200, path
    for path in ("%2553ales", "sales%00", "sales%20", "%22Sales%22", "sales%2Fa", "..%2fsales"):
        answer = await caller.http.get(f"/datasets/{path}")
        assert answer.status_code == 404, path


@pytest.mark.parametrize("name", ["count", "Table", "NULL", "true", "shop.unnest", "runtime.a", "spice.a"])
async def test_reserved_names_are_refused_for_datasets_and_views(caller: Any, name: str) -> None:
    for path, body in (("/datasets", {"from": "file:a.csv"}), ("/views", {"sql": "select 1 as x"})):
        answer = await caller.http.post(path, json=body | {"name": name})
        assert answer.status_code == 400, path
        assert [(e["path"], e["code"]) for e in answer.json()["errors"]] == [("name", "invalid_name")]


async def test_lists_include_the_status_of_each_dataset_when_asked(caller: Any) -> None:
    await caller.add("sales", caller.parquet("sales", [{"x": 1}]))
    [dataset] = (await caller.http.get("/datasets?include=status")).json()["datasets"]
    assert dataset["status"]["status"] == "unknown"
    assert (await caller.status())["vmStatus"] == "not_provisioned"
    await caller.rows("select * from sales")
    [dataset] = (await caller.http.get("/datasets?include=status")).json()["datasets"]
    assert dataset["status"] == (await caller.status())["datasets"]["sales"]
    assert (dataset["status"]["ok"], dataset["status"]["status"]) == (True, "ready")
    [plain] = (await caller.http.get("/datasets")).json()["datasets"]
    assert "status" not in plain
    assert (await caller.http.put("/datasets/sales", json=dataset)).status_code == 200
    assert (await caller.http.get("/datasets?include=secrets")).status_code == 400


async def test_faults_of_one_item_are_told_in_the_order_of_its_body(caller: Any) -> None:
    body = {"visibility": "secret", "params": {"nope": "x"}, "name": "1a", "from": "s3://bucket/a.parquet"}
    answer = await caller.http.post("/datasets", json=body)
    assert [e["path"] for e in answer.json()["errors"]] == ["visibility", "nope", "name"]
    answer = await caller.http.put("/views/v", json={"sql": "select 1 as x"})
    assert answer.status_code == 404
    answer = await caller.http.post("/views", json={"description": "\0", "sql": "drop table x", "name": "1"})
    assert [e["path"] for e in answer.json()["errors"]] == ["description", "sql", "name"]
    body = {"addDatasets": [{"visibility": "x", "name": "1a", "from": "nope:x"}], "addViews": [{"name": "v"}]}
    answer = await caller.http.patch("/config", json=body)
    assert [e["path"] for e in answer.json()["errors"]] == [
        "addDatasets[0].visibility",
        "addDatasets[0].name",
        "addDatasets[0].from",
        "addViews[0].sql",
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("acceleration", {"refresh_mode": "changes"}),
        ("access", "read_write"),
        ("time_partition_column", "at"),
        ("columns", [{"name": "a", "full_text_search": {"enabled": True}}]),
        ("ref", "datasets/a"),
    ],
)
async def test_what_a_spicepod_may_hold_and_this_version_does_not_do_is_refused_by_name(
    caller: Any, field: str, value: Any
) -> None:
    answer = await caller.http.post("/datasets", json={"name": "a", "from": "file:a.csv", field: value})
    [error] = answer.json()["errors"]
    assert error["path"].startswith(field) and error["code"] == "not_available"


class TestLimits:
    async def test_two_hundred_datasets_and_two_hundred_views(self, caller: Any) -> None:
        datasets = [{"name": f"t{n}", "from": "file:a.csv"} for n in range(200)]
        views = [{"name": f"v{n}", "sql": f"select {n} as x"} for n in range(200)]
        answer = await caller.http.patch("/config", json={"addDatasets": datasets, "addViews": views})
        assert answer.status_code == 200, answer.text
        for path, body in (
            ("/datasets", {"name": "more", "from": "file:a.csv"}),
            ("/views", {"name": "more", "sql": "select 1 as x"}),
        ):
            answer = await caller.http.post(path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (400, "limit_exceeded")
            assert "at most 200" in answer.json()["errors"][0]["message"]
        patch = {"addDatasets": [{"name": "more", "from": "file:a.csv"}], "removeDatasets": ["t0"]}
        assert (await caller.http.patch("/config", json=patch)).status_code == 200

    async def test_sixty_four_parameters_of_eight_kibibytes(self, caller: Any) -> None:
        body = {"name": "a", "from": "file:a.csv", "params": {f"p{n}": "x" for n in range(65)}}
        answer = await caller.http.post("/datasets", json=body)
        assert [(e["path"], e["code"]) for e in answer.json()["errors"]] == [("params", "limit_exceeded")]
        for size, found in ((8192, []), (8193, [("s3_secret", "limit_exceeded")])):
            answer = await caller.http.post("/datasets?validateOnly=true", json=s3(s3_secret="x" * size))
            assert [(e["path"], e["code"]) for e in answer.json().get("errors", [])] == found, size
        # Bytes, not characters.
        answer = await caller.http.post("/datasets?validateOnly=true", json=s3(s3_secret="é" * 4097))
        assert answer.status_code == 400

    async def test_a_configuration_of_one_mebibyte(self, caller: Any) -> None:
        sql = "select '" + "x" * 200_000 + "' as x"
        for n in range(5):
            answer = await caller.http.post("/views", json={"name": f"v{n}", "sql": sql})
            assert answer.status_code == 201, answer.text
        answer = await caller.http.post("/views", json={"name": "v5", "sql": sql})
        assert (answer.status_code, answer.json()["code"]) == (400, "limit_exceeded")
        assert "1048576 bytes" in answer.json()["errors"][0]["message"]

    async def test_a_body_of_one_mebibyte(self, caller: Any) -> None:
        body = b'{"name": "a", "from": "file:a.csv", "description": "' + b"x" * 1024 * 1024 + b'"}'

        async def pieces() -> Any:
            for start in range(0, len(body), 100_000):
                yield body[start : start + 100_000]

        kind = {"content-type": "application/json"}
        for method, path in (("POST", "/datasets"), ("PATCH", "/config"), ("PUT", "/views/v")):
            for content in (body, pieces()):
                answer = await caller.http.request(method, path, content=content, headers=kind)
                assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large"), path


async def test_every_answer_has_a_request_id_and_an_error_repeats_it(caller: Any) -> None:
    await caller.add("a", "file:a.csv")
    requests: list[tuple[str, str, int]] = [
        ("GET", "/config", 200),
        ("GET", "/datasets/a", 200),
        ("GET", "/datasets/b", 404),
        ("GET", "/nowhere", 404),
        ("POST", "/config", 405),
        ("PATCH", "/datasets/a", 405),
        ("POST", "/datasets", 400),
        ("DELETE", "/views/v", 404),
    ]
    for method, path, status in requests:
        answer = await caller.http.request(method, path, headers={"X-Request-Id": f"mine-{status}"})
        assert answer.status_code == status, (method, path)
        assert answer.headers["x-request-id"] == f"mine-{status}"
        if status >= 400:
            assert answer.json()["requestId"] == f"mine-{status}"
        if status == 405:
            assert answer.headers["allow"]
    assert len((await caller.http.get("/config")).headers["x-request-id"]) >= 16


async def test_a_member_who_may_read_and_query_cannot_create(lake: Any, tenant_id: str) -> None:
    async with lake.caller(tenant_id, ("lake:read", "lake:query")) as member:
        for path, body in (
            ("/datasets", {"name": "a", "from": "file:a.csv"}),
            ("/views", {"name": "v", "sql": "select 1 as x"}),
        ):
            answer = await member.http.post(path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        answer = await member.http.patch(
            "/config", json={"addViews": [{"name": "v", "sql": "select 1 as x"}]}
        )
        assert answer.status_code == 403
        assert (await member.http.get("/config")).json()["version"] == 0
