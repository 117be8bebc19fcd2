"""The connection to the database is cut at every place of a change: it is made whole, or not at all, and never twice."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from tests.cuts import Wire, wire_to
from tests.integration.context_lake.conftest import new_tenant
from tests.promises import Promise, size
from tests.serving import served
from tests.unit.context_lake.conftest import s3

from weir.context_lake.app import create_app

BEFORE = {
    "addDatasets": [s3(), {"name": "old", "from": "file:old.csv"}, {"name": "gone", "from": "file:gone.csv"}],
    "addViews": [{"name": "leaving", "sql": "select 1 as x"}],
}
CHANGE = {
    "removeViews": ["leaving"],
    "removeDatasets": ["gone", "sales"],
    "addDatasets": [s3(s3_secret="another") | {"name": "fresh"}, {"name": "new", "from": "file:new.csv"}],
    "addViews": [{"name": "seen", "sql": "select 2 as x"}],
    "updateDatasets": {"old": {"description": "changed"}},
}
# Enough for every message of the change; the proof ends at the first place that it does not come to.
MOST_PLACES = 200


@pytest.fixture
async def wired(lake: Any, settings_of: Callable[..., Any]) -> AsyncIterator[tuple[Wire, str]]:
    """A desk whose way to the database can be cut, and its address."""
    async with (
        wire_to(lake.settings.database_url) as (wire, dsn),
        served(create_app(settings_of(database_url=dsn))) as url,
    ):
        yield wire, url


async def kept(lake: Any, tenant_id: str) -> Any:
    """What the tables hold of a change."""
    async with lake.database.tenant(tenant_id) as connection:
        return await connection.fetchrow(
            """
            select
                (select version from lakes where tenant_id = $1) as version,
                (select max(version) from lake_configs where tenant_id = $1) as configs,
                (select count(*) from lake_secrets where tenant_id = $1) as secrets,
                (select count(*) from lake_answers where tenant_id = $1) as answers
            """,
            tenant_id,
        )


async def shown(client: httpx.AsyncClient) -> dict[str, Any]:
    listed = {kind: (await client.get(f"/{kind}")).json()[kind] for kind in ("datasets", "views")}
    names = {kind: sorted(item["name"] for item in items) for kind, items in listed.items()}
    described = {item["name"]: item.get("description") for item in listed["datasets"]}
    version = (await client.get("/config")).json()["version"]
    return {"version": version, "old": described["old"], **names}


@pytest.mark.promise("P1")
@pytest.mark.timeout(600)
async def test_a_patch_that_is_cut_at_any_message_is_made_whole_or_not_at_all(
    lake: Any, wired: tuple[Wire, str], promise: Promise
) -> None:
    wire, url = wired
    untouched = {"version": 1, "old": None, "datasets": ["gone", "old", "sales"], "views": ["leaving"]}
    changed = {"version": 2, "old": "changed", "datasets": ["fresh", "new", "old"], "views": ["seen"]}
    made = unmade = 0
    for at_once in (False, True):
        for place in range(1, MOST_PLACES):
            tenant_id = await new_tenant(lake)
            async with lake.caller(tenant_id) as steady, lake.caller(tenant_id, url=url) as caller:
                assert (await steady.http.patch("/config", json=BEFORE)).status_code == 200
                before = await kept(lake, tenant_id)
                assert await shown(caller.http) == untouched
                wire.arm(place, at_once=at_once)
                key = {"Idempotency-Key": "once"}
                answer = await caller.http.patch("/config", json=CHANGE, headers=key)
                if wire.disarm():
                    assert answer.status_code == 200
                    break
                # A connection that is cut while nobody uses it is replaced unseen.
                assert answer.status_code in (200, 503), answer.text
                now, seen = await settled(lake, tenant_id), await shown(steady.http)
                if now["version"] == 1:
                    assert (tuple(now), seen, answer.status_code) == (tuple(before), untouched, 503)
                    unmade += 1
                else:
                    assert (tuple(now), seen) == ((2, 2, before["secrets"], 1), changed)
                    made += 1
                again = await caller.http.patch("/config", json=CHANGE, headers=key)
                assert again.status_code == 200, again.text
                assert await shown(steady.http) == changed
                assert tuple(await kept(lake, tenant_id)) == (2, 2, before["secrets"], 1)
        else:
            raise AssertionError("the change has more messages than were tried")
    assert made and unmade
    promise.held(
        f"{made + unmade} cuts at every message of a patch of 7 operations: {made} whole, {unmade} not at all,"
        " 0 mixed; the same request again: 0 twice"
    )


async def settled(lake: Any, tenant_id: str) -> Any:
    """What the tables hold once the server has read what was handed on before the cut."""
    found = await kept(lake, tenant_id)
    for _ in range(5):
        await asyncio.sleep(0.02)
        last, found = found, await kept(lake, tenant_id)
        if tuple(last) == tuple(found):
            break
    return found


@pytest.mark.promise("P2")
@pytest.mark.timeout(1200)
async def test_racing_requests_of_one_key_change_a_lake_once_though_connections_break(
    lake: Any, wired: tuple[Wire, str], promise: Promise
) -> None:
    wire, url = wired
    keys, times, chance = size(60, 600), 5, random.Random(7)
    tenant_id, repeated = await new_tenant(lake), 0
    async with lake.caller(tenant_id) as steady, lake.caller(tenant_id, url=url) as caller:

        async def ask(client: httpx.AsyncClient, number: int) -> tuple[int, bytes, str]:
            """Asked until there is an answer, as a client does that has had none."""
            nonlocal repeated
            body = {"name": f"d{number}", "from": "file:a.csv", "description": uuid.UUID(int=number).hex}
            while True:
                answer = await client.post(
                    "/datasets", json=body, headers={"Idempotency-Key": f"key-{number}"}
                )
                if answer.status_code not in (503, 409):
                    return answer.status_code, answer.content, answer.headers["etag"]
                assert answer.json()["code"] in ("database_unavailable", "version_conflict"), answer.text
                repeated += 1
                await asyncio.sleep(0.02)

        for number in range(keys):
            wire.arm(chance.randrange(1, 40), at_once=chance.random() < 0.5)
            clients = [(steady if one == 0 else caller).http for one in range(times)]
            answers = await asyncio.gather(*(ask(client, number) for client in clients))
            wire.disarm()
            assert len(set(answers)) == 1 and answers[0][0] == 201, answers
        assert (await steady.http.get("/config")).json()["version"] == keys
    assert repeated, "no request was broken off"
    promise.held(
        f"{keys} keys × {times} racing POST /datasets on 2 desks, {wire.cuts} cuts, {repeated} asked again:"
        f" {keys} versions, 0 differing answers"
    )
