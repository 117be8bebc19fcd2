"""Racing requests of one key, on two studios, over connections that break: one task, one answer."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.cuts import wire_to
from tests.integration.agent_engine.conftest import Caller
from tests.promises import Promise, size


@pytest.mark.promise("P2")
@pytest.mark.timeout(1200)
async def test_racing_requests_of_one_key_make_one_task_though_connections_break(
    dsn: str, tenant_id: str, start_world: Callable[..., Any], tmp_path: Any, promise: Promise
) -> None:
    keys, times, chance = size(200, 2000), 5, random.Random(2)
    repeated = 0

    async def ask(caller: Caller, agent: str, number: int) -> tuple[int, str]:
        """Asked until there is an answer, as a client does that has had none."""
        nonlocal repeated
        body, key = {"agent": agent, "title": f"task {number}"}, {"Idempotency-Key": f"key-{number}"}
        while True:
            answer = await caller.call("POST", "/tasks", body, headers=key)
            if answer.status_code != 503:
                return answer.status_code, answer.text
            repeated += 1
            await asyncio.sleep(0.02)

    async with (
        wire_to(dsn) as (wire, wired),
        start_world(tmp_path) as steady,
        start_world(tmp_path, database_url=wired) as shaken,
    ):
        callers = [steady.caller(tenant_id), *(shaken.caller(tenant_id) for _ in range(times - 1))]
        agent = (await steady.assistant(callers[0])).agent
        made: set[str] = set()
        for number in range(keys):
            wire.arm(chance.randrange(1, 40), at_once=chance.random() < 0.5)
            answers = await asyncio.gather(*(ask(caller, agent, number) for caller in callers))
            wire.disarm()
            assert len(set(answers)) == 1 and answers[0][0] == 201, answers
            made.add(answers[0][1])
        listed = await callers[0].ask(200, "GET", "/tasks?limit=1")
        for caller in callers:
            await caller.http.aclose()
    assert listed["total"] == len(made) == keys
    assert repeated, "no request was broken off"
    promise.held(
        f"{keys} keys × {times} racing POST /tasks on 2 studios, {wire.cuts} cuts, {repeated} asked again:"
        f" {listed['total']} tasks, 0 differing answers"
    )
