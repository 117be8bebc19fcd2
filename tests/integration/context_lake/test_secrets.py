"""Credentials go in and never come out: not in an answer, not in a log, not plain in the database."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.unit.context_lake.conftest import s3

from weir.context_lake.connectors import CONNECTORS

CANARY = "canary-9f2b7c41"
SOURCES = {
    "s3": "s3://bucket/a.parquet",
    "gcs": "gcs://bucket/a.parquet",
    "abfs": "abfs://container/a.parquet",
    "http": "http://127.0.0.1:9/a.csv",
    "https": "https://127.0.0.1:9/a.csv",
    "file": "file:a.csv",
    "postgres": "postgres:public.orders",
    "mysql": "mysql:orders",
    "sqlite": "sqlite:orders",
    "duckdb": "duckdb:orders",
    "delta_lake": "delta_lake:s3://bucket/table/",
    "iceberg": "iceberg:s3://bucket/table/",
}
# What each connector needs besides credentials to be accepted.
COMPLETE: list[dict[str, Any]] = [
    s3(s3_key=f"{CANARY}-1", s3_secret=f"{CANARY}-2"),
    {
        "name": "pg",
        "from": "postgres:public.orders",
        "params": {
            "pg_host": "127.0.0.1",
            "pg_port": "9",
            "pg_db": "shop",
            "pg_user": "reader",
            "pg_pass": f"{CANARY}-3",
            "pg_sslmode": "disable",
        },
    },
    {
        "name": "my",
        "from": "mysql:orders",
        "params": {
            "mysql_host": "127.0.0.1",
            "mysql_tcp_port": "9",
            "mysql_db": "shop",
            "mysql_user": "reader",
            "mysql_pass": f"{CANARY}-4",
        },
    },
    {
        "name": "web",
        "from": "http://127.0.0.1:9/a.csv",
        "params": {"file_format": "csv", "http_username": "reader", "http_password": f"{CANARY}-5"},
    },
]
# Accepted too, and sent on every writing route.
LAKE_TABLES: list[dict[str, Any]] = [
    {
        "name": "delta",
        "from": "delta_lake:s3://bucket/table/",
        "params": {
            "delta_lake_aws_access_key_id": f"{CANARY}-6",
            "delta_lake_aws_secret_access_key": f"{CANARY}-7",
        },
    },
    {
        "name": "ice",
        "from": "iceberg:https://127.0.0.1:9/v1/namespaces/a/tables/b",
        "params": {
            "iceberg_token": f"{CANARY}-8",
            "iceberg_s3_secret_access_key": f"{CANARY}-9",
            "iceberg_s3_access_key_id": f"{CANARY}-10",
        },
    },
]


def hostile_bodies() -> Iterator[dict[str, Any]]:
    """Datasets with the canary wherever a careless client may put a credential."""
    yield from LAKE_TABLES
    for connector, source in SOURCES.items():
        name = f"t_{connector}"
        declared = CONNECTORS[connector].params
        every = {param.name: f"{CANARY}-{param.name}" if param.credential else "x" for param in declared}
        yield {"name": name, "from": source, "params": every}
        yield {"name": name, "from": source, "params": {p.name: CANARY for p in declared if p.credential}}
        yield {
            "name": name,
            "from": source,
            "params": {f"{p.name}x": CANARY for p in declared if p.credential},
        }
        yield {
            "name": name,
            "from": source,
            "params": {p.name: {"a": CANARY} for p in declared if p.credential},
        }
        yield {
            "name": name,
            "from": source,
            "params": {p.name: f"{CANARY}${{secrets:ds.x.y}}" for p in declared if p.credential},
        }
        scheme, _, rest = source.partition(":")
        place = rest.removeprefix("//")
        yield {"name": name, "from": f"{scheme}://user:{CANARY}@{place}"}
        yield {"name": name, "from": f"{source}?password={CANARY}&sig={CANARY}"}


async def documented_gets(lake: Any, http: httpx.AsyncClient) -> list[str]:
    """Every GET route of the lake's own document, its parameters filled in."""
    document = (await http.get(f"{lake.url}/schema/openapi.json")).json()
    paths = [path for path, item in document["paths"].items() if "get" in item]
    values = {
        "/config/versions/{version}": "1",
        "/datasets/{name}": "sales",
        "/datasets/{name}/refreshes": "sales",
        "/views/{name}": "v",
        "/views/{name}/refreshes": "v",
    }
    return [
        re.sub(r"\{\w+\}", lambda _: values[path.removeprefix("/v1/context-lake")], path)  # noqa: B023
        for path in paths
    ]


async def test_secret_never_in_any_response(lake: Any, caller: Any, capfd: Any) -> None:
    """Whatever is sent with a credential in it and whatever is read afterwards, on every route."""
    answers: list[httpx.Response] = []
    for body in COMPLETE:
        answers.append(await caller.http.post("/datasets", json=body))
        assert answers[-1].status_code == 201, answers[-1].text
    accepted = 0
    for body in hostile_bodies():
        patch = {"addDatasets": [body], "updateDatasets": {"pg": {"params": body.get("params", {})}}}
        answers += [
            await caller.http.post("/datasets", json=body),
            await caller.http.post("/datasets?validateOnly=true", json=body | {"name": "tried"}),
            await caller.http.put("/datasets/pg", json=body | {"name": "pg"}),
            await caller.http.patch("/config", json=patch),
        ]
        accepted += answers[-4].status_code == 201
        assert {answer.status_code for answer in answers[-4:]} <= {200, 201, 400, 409}
    assert accepted >= 3
    await caller.http.put("/datasets/pg", json=COMPLETE[1])
    answers += [
        await caller.http.post("/datasets", content=json.dumps(COMPLETE[0])[:-3]),
        await caller.http.post("/config/rollback", json={"version": 1}),
        await caller.http.post("/config/rollback", json={"version": 4}),
        await caller.http.post("/views", json={"name": "v", "sql": "select * from sales"}),
    ]
    for name in ("sales", "pg", "my", "web", "v"):
        answers.append(await caller.sql(f"select * from {name}"))
        answers.append(await caller.sql(f"select nope from {name}"))
    answers.append(await caller.sql("select * from runtime.task_history"))
    for path in await documented_gets(lake, caller.http):
        answers.append(await caller.http.get(f"{lake.url}{path}"))
        assert answers[-1].status_code == 200, (path, answers[-1].text)
    answers += [
        await caller.http.get("/config", headers={"Accept": "application/yaml"}),
        await caller.http.get("/datasets?include=status"),
        await caller.http.post("/redeploy"),
        await caller.http.delete("/datasets/web"),
    ]
    leaks = [
        (str(answer.request.url), answer.text[:300])
        for answer in answers
        if CANARY in answer.text or CANARY in str(answer.headers)
    ]
    assert leaks == []
    async with caller.database.any_tenant() as connection:
        tables = await connection.fetch(
            "select table_name as name from information_schema.columns "
            "where column_name = 'tenant_id' and table_schema = 'public'"
        )
        for table in tables:
            rows = await connection.fetch(
                f'select t::text as text from "{table["name"]}" as t where tenant_id = $1', caller.tenant_id
            )
            found = [row["text"] for row in rows]
            plain = [text for text in found if CANARY in text or CANARY.encode().hex() in text]
            assert plain == [], table["name"]
    printed = capfd.readouterr()
    assert CANARY not in printed.out + printed.err


async def test_put_with_reference_keeps_secret(caller: Any) -> None:
    """GET, edit, PUT: the sealed value is the one that was sealed first."""

    async def sealed() -> list[Any]:
        async with caller.database.tenant(caller.tenant_id) as connection:
            return await connection.fetch(
                "select reference, sealed, updated_at from lake_secrets where tenant_id = $1 order by reference",
                caller.tenant_id,
            )

    await caller.http.post("/datasets", json=s3())
    before = await sealed()
    read = (await caller.http.get("/datasets/sales")).json()
    answer = await caller.http.put("/datasets/sales", json=read | {"description": "edited"})
    assert (answer.status_code, answer.json()["warnings"]) == (200, [])
    assert await sealed() == before
    read["params"]["s3_secret"] = "another"
    assert (await caller.http.put("/datasets/sales", json=read)).status_code == 200
    after = await sealed()
    assert after[0] == before[0]
    assert after[1]["sealed"] != before[1]["sealed"]


async def test_cross_dataset_secret_reference_refused(caller: Any) -> None:
    await caller.http.post("/datasets", json=s3())
    for reference in (
        "${secrets:ds.sales.s3_secret}",
        "${ secrets:ds.sales.s3_key }",
        "${secrets:ds.thief.s3_secret}",
        "${secrets:MY_KEY}",
        "${env:PATH}",
        "prefix ${env:PATH}",
    ):
        answer = await caller.http.post("/datasets", json=s3(s3_secret=reference) | {"name": "thief"})
        assert answer.status_code == 400, reference
        assert [(e["path"], e["code"]) for e in answer.json()["errors"]] == [
            ("s3_secret", "secret_reference")
        ]
    assert (await caller.http.get("/config")).json()["version"] == 1


@pytest.mark.parametrize(
    "source", ["postgres://user:hunter22@host/db", "https://me:hunter22@example.com/a.csv"]
)
async def test_credentials_in_from_are_refused_and_not_repeated(caller: Any, source: str) -> None:
    answer = await caller.http.post("/datasets", json={"name": "a", "from": source})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["path"] == "from"
    assert "hunter22" not in answer.text
