"""The gateway is killed while changes pass: every change that was made is in the audit trail."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.benchmarks.standing import Standing
from tests.promises import Promise, size
from tests.starting import started, wait_until_ready

CHANGES, CALLERS, KILLS = size(400, 4000), 8, size(3, 30)
PAGE = 100


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    with started(tmp_path_factory.mktemp("audit"), WEIR_DEMO="0") as platform:
        yield Standing(platform)


def pid_of(standing: Standing, service: str) -> int:
    [pid] = [int(entry.name) for kind, entry in standing._running() if kind == service]
    return pid


def trail(standing: Standing) -> dict[str, dict[str, Any]]:
    """The deletions of the trail by what was deleted; none twice."""
    found: dict[str, dict[str, Any]] = {}
    query = f"/api/v1/audit?action=schema.delete&per_page={PAGE}"
    first = standing.client.get(query).json()
    for number in range(1, first["total_pages"] + 1):
        for entry in standing.client.get(f"{query}&page={number}").json()["data"]:
            name = entry["resource"].rpartition("/")[2]
            assert name not in found
            found[name] = entry
    return found


@pytest.mark.promise("P17")
@pytest.mark.timeout(1800)
async def test_every_change_that_was_made_is_in_the_trail_though_the_gateway_is_killed(
    standing: Standing, promise: Promise
) -> None:
    names = [f"drill-{n:04}" for n in range(CHANGES)]
    for name in names:
        assert standing.client.post("/api/v1/schemas", json={"name": name}).status_code == 201
    waiting, told, broken = list(names), dict[str, int](), list[str]()

    async def delete() -> None:
        """Each is asked for once: a second time would be noted too, and hide that the first was not."""
        while waiting:
            name = waiting.pop()
            try:
                async with httpx.AsyncClient(
                    base_url=standing.platform.url, headers=standing.headers, timeout=30
                ) as client:
                    told[name] = (await client.delete(f"/api/v1/schemas/{name}")).status_code
            except httpx.TransportError:
                broken.append(name)
                await asyncio.to_thread(wait_until_ready, standing.platform)

    async def kill() -> None:
        for left in range(CHANGES, 0, -CHANGES // (KILLS + 1))[1 : KILLS + 1]:
            while len(waiting) > left:
                await asyncio.sleep(0.001)
            # The engine stands still, so that changes are handed on and not yet made when the gateway dies.
            engine = pid_of(standing, "agent-engine")
            os.kill(engine, signal.SIGSTOP)
            await asyncio.sleep(0.3)
            os.kill(pid_of(standing, "gateway"), signal.SIGKILL)
            os.kill(engine, signal.SIGCONT)

    await asyncio.gather(kill(), *(delete() for _ in range(CALLERS)))
    await asyncio.to_thread(wait_until_ready, standing.platform)
    left = {schema["name"] for schema in standing.client.get("/api/v1/schemas").json()}
    made = set(names) - left
    noted = trail(standing)
    unknown = [name for name in made if noted.get(name, {}).get("status") == "unknown"]
    assert len(broken) >= KILLS
    assert unknown, "the gateway was never killed between a change and its outcome"
    assert made - noted.keys() == set()
    # Whoever was told how it went finds the same in the trail.
    for name, status in told.items():
        assert json.loads(noted[name]["details"])["status_code"] == status == 204
    assert {noted[name]["status"] for name in made} <= {"completed", "unknown"}
    promise.held(
        f"{len(made)} of {CHANGES} changes made, {KILLS} gateways killed, {len(broken)} callers cut off: {len(made)} in"
        f" the trail, {len(unknown)} of them as unknown outcomes, 0 missing, 0 twice"
    )
