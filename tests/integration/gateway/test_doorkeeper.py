"""The door: who is refused when there is more to do than can be done, how, and who is not."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from tests.serving import served

from weir.gateway import places
from weir.gateway.app import create_app
from weir_shared.auth.keys import JWT_KEY, load_or_create_key_pair

from .conftest import Door

# Of one tenant: two of the quick, and sixteen of those that wait for somebody else.
AT_ONCE = 4
SILENT = "/api/v1/agents/silent"


def session(door: Door) -> dict[str, str]:
    """Headers of a tenant of its own."""
    private = load_or_create_key_pair(door.settings.keys_dir, JWT_KEY).private
    claims = {
        "sub": "ann",
        "tenant_id": str(uuid.uuid4()),
        "scope": "admin",
        "exp": int(time.time()) + 900,
    }
    return {"Authorization": f"Bearer {jwt.encode(claims, private, 'EdDSA')}"}


@pytest.fixture
async def narrow(
    door: Door, settings_of: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway with few places."""
    monkeypatch.setattr(places, "BURST_SECONDS", 0.2)
    async with (
        served(create_app(settings_of(requests_at_once=AT_ONCE))) as url,
        httpx.AsyncClient(base_url=url, timeout=20) as client,
    ):
        yield client


@pytest.fixture
async def busy(door: Door, narrow: httpx.AsyncClient) -> AsyncIterator[dict[str, str]]:
    """The headers of a tenant that holds all of its places at the engine."""
    headers = session(door)
    assert (await narrow.get("/api/v1/agents", headers=headers)).status_code == 200
    held = [asyncio.create_task(narrow.get(SILENT, headers=headers)) for _ in range(AT_ONCE // 2)]
    async with asyncio.timeout(10):
        while sum(asked["path"] == SILENT for asked in door.engine.asked) < len(held):
            await asyncio.sleep(0.01)
    yield headers
    for task in held:
        task.cancel()
    await asyncio.wait(held)
    door.engine.asked.clear()


async def test_a_tenant_that_has_its_share_is_told_when_to_come_back(
    narrow: httpx.AsyncClient, busy: dict[str, str]
) -> None:
    refused = await narrow.get("/api/v1/agents", headers=busy)
    assert (refused.status_code, refused.json()["error"]) == (429, "rate_limited")
    assert int(refused.headers["retry-after"]) > 0
    again = await narrow.get("/api/v1/agents", headers=busy)
    assert again.status_code == 429


async def test_others_and_other_services_are_let_in(
    door: Door, narrow: httpx.AsyncClient, busy: dict[str, str]
) -> None:
    assert (await narrow.get("/api/v1/agents", headers=session(door))).status_code == 200
    assert (await narrow.get("/v1/context-lake/datasets", headers=busy)).status_code == 200
    # It waits for a model, and would only wait here.
    assert (await narrow.post("/api/v1/schemas/one/chat", headers=busy, json={})).status_code == 200


async def test_whoever_asks_whether_it_lives_is_never_refused(
    narrow: httpx.AsyncClient, busy: dict[str, str]
) -> None:
    strangers = [asyncio.create_task(narrow.get("/api/v1/rate-limits/usage")) for _ in range(3 * AT_ONCE)]
    for path in ("/live", "/ready", "/api/v1/live", "/api/v1/ready", "/metrics"):
        assert (await narrow.get(path)).status_code == 200, path
    for stranger in asyncio.as_completed(strangers):
        assert (await stranger).status_code in (401, 429, 503)
    told = (await narrow.get("/metrics")).text
    assert "weir_http_shed_total" in told


async def test_open_streams_hold_no_places(door: Door, narrow: httpx.AsyncClient) -> None:
    headers = session(door)
    assert (await narrow.get("/api/v1/agents", headers=headers)).status_code == 200

    async def hear() -> None:
        async with narrow.stream("GET", "/api/v1/agents/endless", headers=headers) as stream:
            async for _ in stream.aiter_bytes():
                return

    await asyncio.gather(*(hear() for _ in range(3 * AT_ONCE)))
    async with (
        narrow.stream("GET", "/api/v1/agents/endless", headers=headers) as one,
        narrow.stream("GET", "/api/v1/agents/endless", headers=headers) as two,
    ):
        assert (one.status_code, two.status_code) == (200, 200)
        assert (await narrow.get("/api/v1/agents", headers=headers)).status_code == 200
