"""Racing deliveries of one id to a webhook, at two studios, over connections that break: one task, one answer."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.cuts import wire_to
from tests.integration.agent_engine.conftest import Caller
from tests.promises import Promise, size

SECRET = "a secret of the sender's"
HEADERS = ("X-Webhook-Id", "X-GitHub-Delivery", "Idempotency-Key")


@pytest.mark.promise("P2")
@pytest.mark.timeout(1200)
async def test_racing_deliveries_of_one_id_make_one_task_though_connections_break(
    dsn: str, tenant_id: str, start_world: Callable[..., Any], tmp_path: Any, promise: Promise
) -> None:
    ids, times, chance = size(90, 900), 5, random.Random(3)
    repeated = firsts = 0

    async def deliver(caller: Caller, path: str, number: int) -> tuple[int, str]:
        """Sent until there is an answer, as a sender does that has had none; which was the first is told to one."""
        nonlocal repeated, firsts
        told = {HEADERS[number % len(HEADERS)]: f"delivery-{number}", "X-Webhook-Secret": SECRET}
        while True:
            answer = await caller.http.post(f"/api/v1/webhooks/{path}", content=b"{}", headers=told)
            if answer.status_code != 503:
                firsts += answer.json().get("duplicate") is False
                return answer.status_code, answer.json().get("task_id")
            repeated += 1
            await asyncio.sleep(0.02)

    async with (
        wire_to(dsn) as (wire, wired),
        start_world(tmp_path) as steady,
        start_world(tmp_path, database_url=wired) as shaken,
    ):
        callers = [steady.caller(tenant_id), *(shaken.caller(tenant_id) for _ in range(times - 1))]
        agent = (await steady.assistant(callers[0])).agent
        hook = {"type": "webhook", "title": "Have a look", "agent": agent, "secret": SECRET}
        trigger = await callers[0].ask(201, "POST", "/triggers", hook)
        made: set[str] = set()
        for number in range(ids):
            wire.arm(chance.randrange(1, 40), at_once=chance.random() < 0.5)
            answers = await asyncio.gather(
                *(deliver(caller, trigger["webhook_path"], number) for caller in callers)
            )
            wire.disarm()
            assert len(set(answers)) == 1 and answers[0][0] == 202, answers
            made.add(answers[0][1])
            # Once more, when all is quiet.
            assert await deliver(callers[0], trigger["webhook_path"], number) == answers[0]
        listed = await callers[0].ask(200, "GET", "/tasks?source=webhook&limit=1")
        for caller in callers:
            await caller.http.aclose()
    assert listed["total"] == len(made) == ids
    # Whoever was first may never have heard of it: its answer was cut off.
    assert firsts <= ids
    assert repeated, "no delivery was broken off"
    promise.held(
        f"{ids} deliveries × {times} racing to a webhook on 2 studios, {wire.cuts} cuts, {repeated} sent again:"
        f" {listed['total']} tasks, 0 differing answers"
    )
