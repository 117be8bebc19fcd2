"""The inbound webhook: an address that is its own credential."""

from typing import Any

import httpx
import pytest
from tests.integration.context_lake.conftest import Caller, Lake, eventually
from tests.promises import Promise

from weir_shared.auth.principal import ANONYMOUS
from weir_shared.auth.tickets import HEADER

HOOKS = "/api/hooks/cl"


async def call(lake: Lake, token: str, **more: Any) -> httpx.Response:
    """As the gateway hands it on: with the ticket of nobody in particular."""
    ticket = {HEADER: lake.office.issue(ANONYMOUS, "context-lake")}
    async with httpx.AsyncClient(base_url=lake.url, headers=ticket) as http:
        return await http.post(f"{HOOKS}/{token}", **more)


async def wished(caller: Caller) -> dict[str, int]:
    async with caller.database.tenant(caller.tenant_id) as connection:
        rows = await connection.fetch(
            "select name, wish, trigger from lake_refreshes where tenant_id = $1", caller.tenant_id
        )
    assert {row["trigger"] for row in rows} <= {"webhook"}
    return {row["name"]: row["wish"] for row in rows}


async def let_time_pass(caller: Caller) -> None:
    async with caller.database.tenant(caller.tenant_id) as connection:
        await connection.execute(
            """
            update lake_webhook_triggers set triggered_at = triggered_at - interval '31 seconds'
            where tenant_id = $1
            """,
            caller.tenant_id,
        )


@pytest.fixture
async def token(caller: Caller) -> str:
    return (await caller.http.get("/webhook")).json()["token"]


@pytest.fixture
async def datasets(caller: Caller) -> None:
    for name in ("Sales", "stock"):
        await caller.add(name, caller.parquet(name.lower(), [{"n": 1}]))


async def test_the_first_look_makes_the_webhook_and_alone_shows_its_token(caller: Caller) -> None:
    first = (await caller.http.get("/webhook")).json()
    assert first["token"].startswith("clwh_")
    assert first["url"] == f"{HOOKS}/{first['token']}"
    assert first["token"].startswith(first["hint"])
    again = (await caller.http.get("/webhook")).json()
    assert (again["token"], again["url"], again["hint"]) == (None, None, first["hint"])
    async with caller.database.tenant(caller.tenant_id) as connection:
        row = await connection.fetchrow("select * from lake_webhooks where tenant_id = $1", caller.tenant_id)
    assert first["token"] not in str(dict(row))


async def test_a_call_wishes_for_every_dataset_once_in_30_seconds(
    lake: Lake, caller: Caller, token: str, datasets: None
) -> None:
    for _ in range(3):
        answer = await call(lake, token)
        assert (answer.status_code, answer.json()) == (202, {"ok": True})
    assert await wished(caller) == {"sales": 1, "stock": 1}
    assert (await call(lake, token, params={"dataset": "stock"})).status_code == 202
    assert await wished(caller) == {"sales": 1, "stock": 1}
    await let_time_pass(caller)
    await call(lake, token)
    assert await wished(caller) == {"sales": 2, "stock": 2}
    assert (await caller.http.get("/webhook")).json()["lastCalledAt"] is not None


async def test_a_call_for_one_dataset_wishes_for_that_one(
    lake: Lake, caller: Caller, token: str, datasets: None
) -> None:
    for _ in range(2):
        assert (await call(lake, token, params={"dataset": "SALES"})).status_code == 202
    assert await wished(caller) == {"sales": 1}
    assert (await call(lake, token, params={"dataset": "stock"})).status_code == 202
    assert await wished(caller) == {"sales": 1, "stock": 1}
    missing = await call(lake, token, params={"dataset": "nothing"})
    assert (missing.status_code, missing.json()["code"]) == (404, "dataset_not_found")


async def test_a_call_has_an_awake_runtime_read_again(
    lake: Lake, caller: Caller, token: str, datasets: None
) -> None:
    assert await caller.rows("select count(*) as n from stock") == [{"n": 1}]
    await call(lake, token, content=b"whatever it sends", headers={"content-type": "text/plain"})

    async def is_served() -> bool:
        async with caller.database.tenant(caller.tenant_id) as connection:
            runs = await connection.fetch(
                "select name from lake_refresh_runs where tenant_id = $1 and outcome = 'succeeded'",
                caller.tenant_id,
            )
        return {row["name"] for row in runs} == {"sales", "stock"}

    await eventually(is_served)


async def test_a_new_token_ends_the_one_of_before(lake: Lake, caller: Caller, token: str) -> None:
    rotated = await caller.http.post("/webhook")
    fresh = rotated.json()["token"]
    assert rotated.status_code in (200, 201)
    assert fresh != token
    assert (await call(lake, token)).status_code == 404
    assert (await call(lake, fresh)).status_code == 202


@pytest.mark.promise("P29")
async def test_every_unknown_token_gets_the_same_answer(
    lake: Lake, caller: Caller, token: str, datasets: None, promise: Promise
) -> None:
    near = token[:-1] + ("0" if token[-1] != "0" else "1")
    answers = [
        await call(lake, guess)
        for guess in (near, "clwh_", "x", "clwh_" + "0" * 64, token.upper(), "é", "%00")
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert {answer.json()["error"] for answer in answers} == {"There is no such webhook"}
    assert await wished(caller) == {}
    assert (await call(lake, token)).status_code == 202
    promise.held(f"{len(answers)} calls of an address that nobody has: 0 accepted")


async def test_a_token_reaches_its_own_tenant_only(
    lake: Lake, caller: Caller, other: Caller, token: str, datasets: None
) -> None:
    await other.add("theirs", other.parquet("theirs", [{"n": 1}]))
    assert (await call(lake, token, params={"dataset": "theirs"})).status_code == 404
    await call(lake, token)
    assert await wished(other) == {}


async def test_only_an_admin_of_the_lake_sees_the_webhook(lake: Lake, caller: Caller) -> None:
    scopes = ("lake:read", "lake:write", "lake:query")
    async with lake.caller(caller.tenant_id, scopes=scopes) as reader:
        assert (await reader.http.get("/webhook")).status_code == 403
        assert (await reader.http.post("/webhook")).status_code == 403
