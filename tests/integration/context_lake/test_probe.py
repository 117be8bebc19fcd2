"""`?probe=true`: the source is opened in the tenant's runtime before a dataset is kept."""

import asyncio
from typing import Any

from tests.integration.context_lake.test_connectors import SECRET, Orders, orders  # noqa: F401 - a fixture

UNREACHABLE = {"pg_host": "127.0.0.1", "pg_port": 1, "pg_db": "x", "pg_user": "u", "pg_pass": SECRET}


def wanted(name: str, source: str, **params: Any) -> dict[str, Any]:
    return {"name": name, "from": source, "params": params}


async def test_a_source_that_can_be_read_tells_its_columns_and_is_kept(caller: Any) -> None:
    body = wanted("sales", caller.parquet("sales", [{"id": 1, "name": "x"}]))
    answer = await caller.http.post("/datasets?probe=true", json=body)
    assert answer.status_code == 201, answer.text
    columns = [
        {"name": "id", "type": "int64", "nullable": True},
        {"name": "name", "type": "string", "nullable": True},
    ]
    assert answer.json()["columns"] == columns
    assert await caller.rows("select id from sales") == [{"id": 1}]
    again = await caller.http.put("/datasets/sales?probe=true", json={"from": body["from"]})
    assert (again.status_code, again.json()["columns"]) == (200, columns)
    plain = await caller.http.put("/datasets/sales", json={"from": body["from"]})
    assert "columns" not in plain.json()


async def test_a_source_that_cannot_be_read_is_told_and_nothing_is_kept(caller: Any) -> None:
    await caller.add("sales", source := caller.parquet("sales", [{"id": 1}]))
    lost = wanted("lost", "postgres:public.orders", **UNREACHABLE)
    cases = {
        "nothing.parquet": await caller.http.post(
            "/datasets?probe=true", json=wanted("gone", f"file:{caller.imports}/nothing.parquet")
        ),
        "refused": await caller.http.post("/datasets?probe=true", json=lost),
        "bucket": await caller.http.post(
            "/datasets?probe=true&validateOnly=true", json=wanted("b", "s3://no-such-bucket-here/a.parquet")
        ),
        "nothing was found": await caller.http.put(
            "/datasets/sales?probe=true", json=wanted("sales", f"file:{caller.imports}/none.parquet")
        ),
    }
    for reason, answer in cases.items():
        body = answer.json()
        assert (answer.status_code, body["code"]) == (400, "source_unreachable"), body
        assert [(e["path"], e["code"]) for e in body["errors"]] == [("from", "source_unreachable")]
        assert reason.lower() in body["error"].lower()
        assert SECRET not in answer.text
    kept = (await caller.http.get("/datasets")).json()["datasets"]
    assert [(dataset["name"], dataset["from"]) for dataset in kept] == [("sales", source)]
    assert await caller.rows("select id from sales") == [{"id": 1}]


async def test_a_tried_dataset_is_probed_and_not_kept(caller: Any) -> None:
    body = wanted("sales", caller.parquet("sales", [{"id": 1}]))
    answer = await caller.http.post("/datasets?probe=true&validateOnly=true", json=body)
    assert (answer.status_code, answer.json()["version"]) == (200, 0)
    assert [column["name"] for column in answer.json()["columns"]] == ["id"]
    assert (await caller.http.get("/datasets")).json()["datasets"] == []


async def test_faults_of_the_request_are_told_before_any_source_is_asked(caller: Any) -> None:
    body = wanted("x", "postgres:t", pg_host="127.0.0.1")
    answer = await caller.http.post("/datasets?probe=true", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert (await caller.status())["vmStatus"] == "not_provisioned"


async def test_a_replacement_is_probed_with_the_secret_that_is_kept(
    caller: Any,
    orders: Orders,  # noqa: F811
) -> None:
    """The reference that was read is sent back; a wrong secret of the request wins over the sealed one."""
    params = orders.params(pg_pass="right" if not orders.params().get("pg_pass") else None)
    params = {**orders.params(), **params}
    await caller.add("o", 'postgres:"a.b".Orders', params=params)
    kept = (await caller.http.get("/datasets/o")).json()
    assert kept["params"]["pg_pass"] == "${secrets:ds.o.pg_pass}"
    answer = await caller.http.put("/datasets/o?probe=true", json=kept)
    assert answer.status_code == 200, answer.text
    assert [column["name"] for column in answer.json()["columns"]] == ["id", "name"]


async def test_a_source_that_never_answers_costs_fifteen_seconds(caller: Any) -> None:
    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    source = "delta_lake:s3://bucket/table"
    params = {
        "delta_lake_aws_endpoint": f"http://127.0.0.1:{port}",
        "delta_lake_aws_allow_http": True,
        "delta_lake_aws_access_key_id": "AKIDEXAMPLE",
        "delta_lake_aws_secret_access_key": SECRET,
    }
    loop = asyncio.get_running_loop()
    started = loop.time()
    answer = await caller.http.post("/datasets?probe=true", json=wanted("t", source, **params))
    assert (answer.status_code, answer.json()["code"]) == (400, "source_unreachable"), answer.text
    assert "15 s" in answer.json()["error"]
    assert loop.time() - started < 20
    assert SECRET not in answer.text
    server.close()
