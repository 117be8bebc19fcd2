"""Tasks: written down, worked on by a worker, asked about, steered and ended; each once, whatever dies meanwhile."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.model_server import Call, Reply, say, use
from tests.integration.agent_engine.conftest import Caller, World
from tests.integration.agent_engine.test_sub_agents import sub_agent
from tests.integration.agent_engine.working import eventually, reached, worker_here, worker_process

from weir.agent_engine import task_worker, tasks
from weir.agent_engine.metrics import TASK_QUEUE_DEPTH, TASK_TRANSITIONS
from weir.agent_engine.tables import task_claims, turns
from weir_shared.db.pool import Database, DatabaseUnavailable

ENDS = ("completed", "failed", "cancelled")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
async def world(start_world: Callable[..., Any], keys: Path) -> AsyncIterator[World]:
    """A studio without a worker: what is created waits."""
    async with start_world(keys) as started:
        yield started


@pytest.fixture
async def worker(dsn: str, redis_url: str, keys: Path) -> AsyncIterator[dict[str, Any]]:
    async with worker_here(dsn, redis_url, keys) as context:
        yield context


async def created(caller: Caller, agent: str, **fields: Any) -> dict[str, Any]:
    return await caller.ask(201, "POST", "/tasks", {"agent": agent, "title": "Look around"} | fields)


async def asked(caller: Caller, task: dict[str, Any], status: int, action: str, body: Any = None) -> Any:
    return await caller.ask(status, "POST", f"/tasks/{task['id']}/{action}", body)


async def status_of(caller: Caller, task: dict[str, Any]) -> str:
    return (await caller.ask(200, "GET", f"/tasks/{task['id']}"))["status"]


async def test_a_new_task_has_every_key_and_waits(world: World, admin: Caller) -> None:
    agent = (await world.assistant(admin)).agent
    task = await created(admin, agent, description="At the market", priority=2, acceptance_criteria=["short"])
    assert task["id"].startswith("task_")
    assert task == await admin.ask(200, "GET", f"/tasks/{task['id']}")
    assert (task["status"], task["source"], task["mode"]) == ("pending", "api", "background")
    assert (task["agent"], task["agent_name"], task["task_id"]) == (agent, agent, task["id"])
    assert task["acceptance_criteria"] == ["short"]
    assert task["result"] is None and task["started_at"] is None


async def test_an_agent_is_told_the_task_and_its_answer_is_the_result(
    world: World, admin: Caller, worker: dict[str, Any]
) -> None:
    assistant = await world.assistant(admin, say("The market", " grows."))
    task = await created(admin, assistant.agent, description="In 2025", acceptance_criteria=["one line"])
    done = await reached(admin, task, "completed")
    assert done["result"] == "The market grows."
    assert done["started_at"] and done["completed_at"]
    [told] = [m["content"] for m in assistant.brain.requests[0]["messages"] if m["role"] == "user"]
    assert told == "Look around\n\nIn 2025\n\nIt is done when:\n- one line"
    session = await admin.ask(200, "GET", f"/sessions/{done['session_id']}")
    assert [message["content"] for message in session["messages"]] == [told, "The market grows."]
    [dispatched] = await admin.ask(200, "GET", f"/sessions/{done['session_id']}/dispatch-tasks")
    assert dispatched == await admin.ask(200, "GET", f"/dispatch/tasks/{task['id']}")
    assert (dispatched["state"], dispatched["result"]) == ("completed", "The market grows.")


async def test_a_task_runs_as_the_identity_and_with_the_scopes_of_its_creator(
    world: World, tenant_id: str, admin: Caller, worker: dict[str, Any], database: Database
) -> None:
    assistant = await world.assistant(admin, say("ok"))
    bob = world.caller(tenant_id, "tasks", "lake:query", subject="bob", actor="api_token")
    done = await reached(bob, await created(bob, assistant.agent), "completed")
    async with database.any_tenant() as connection:
        row = await connection.fetchrow(
            "select sessions.owner, scopes from tasks join sessions on sessions.id = session_id where tasks.id = $1",
            done["id"],
        )
    assert row is not None and tuple(row) == ("api_token:bob", ["lake:query", "tasks"])


async def test_a_model_that_fails_fails_the_task(world: World, admin: Caller, worker: dict[str, Any]) -> None:
    task = await created(admin, (await world.assistant(admin, Reply(status=401))).agent)
    assert (await reached(admin, task, "failed"))["error"]
    assert (await admin.ask(200, "GET", f"/dispatch/tasks/{task['id']}"))["state"] == "failed"


async def test_more_urgent_tasks_come_first(
    world: World, admin: Caller, dsn: str, redis_url: str, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weir.agent_engine.task_worker.WORKING_AT_ONCE", 1)
    assistant = await world.assistant(admin, say("ok"))
    made = [await created(admin, assistant.agent, title=f"p{p}", priority=p) for p in (0, 2, 1)]
    await asked(admin, made[0], 200, "priority", {"priority": 1})
    async with worker_here(dsn, redis_url, keys):
        done = [await reached(admin, task, "completed") for task in made]
    order = [str(request["messages"][-1]["content"]) for request in assistant.brain.requests]
    assert (order, len(done)) == (["p2", "p0", "p1"], 3)


async def test_a_draft_waits_for_approval(world: World, admin: Caller, worker: dict[str, Any]) -> None:
    assistant = await world.assistant(admin, say("ok"))
    task = await created(admin, assistant.agent, require_approval=True)
    assert task["status"] == "draft"
    await asyncio.sleep(0.5)
    assert await status_of(admin, task) == "draft"
    approved = await asked(admin, task, 200, "approve")
    assert approved["approved_at"]
    assert (await reached(admin, task, "completed"))["approved_at"] == approved["approved_at"]
    refused = await asked(admin, task, 400, "approve")
    assert "completed" in refused["message"] and "approved" in refused["message"]


async def test_a_blocked_task_waits_until_all_its_blockers_are_completed(
    world: World, admin: Caller, worker: dict[str, Any]
) -> None:
    assistant = await world.assistant(admin, say("ok"))
    first = [await created(admin, assistant.agent, require_approval=True) for _ in range(2)]
    last = await created(admin, assistant.agent, blocked_by=[task["id"] for task in first])
    await asked(admin, first[0], 200, "approve")
    await reached(admin, first[0], "completed")
    await asyncio.sleep(0.3)
    assert await status_of(admin, last) == "pending"
    refused = await asked(admin, last, 409, "start")
    assert first[1]["id"] in refused["message"]
    await asked(admin, first[1], 200, "approve")
    await reached(admin, last, "completed")


async def test_what_waits_for_a_task_that_fails_is_cancelled_with_all_that_waits_for_it(
    world: World, admin: Caller, worker: dict[str, Any]
) -> None:
    bad = (await world.assistant(admin, Reply(status=401))).agent
    first = await created(admin, bad, require_approval=True)
    second = await created(admin, bad, blocked_by=[first["id"]])
    third = await created(admin, bad, blocked_by=[second["id"]])
    below = await created(admin, bad, parent_task_id=third["id"], blocked_by=[second["id"]])
    await asked(admin, first, 200, "approve")
    await reached(admin, first, "failed")
    for task in (second, third, below):
        cancelled = await reached(admin, task, "cancelled")
        assert first["id"] in cancelled["error"] and "failed" in cancelled["error"]
    refusal = await admin.ask(
        400, "POST", "/tasks", {"agent": bad, "title": "x", "blocked_by": [first["id"]]}
    )
    assert "failed" in refusal["message"]


async def test_cancelling_ends_a_task_and_all_below_it_that_have_not_ended(
    world: World, admin: Caller, worker: dict[str, Any]
) -> None:
    slow = await world.assistant(admin, Reply(text=("late",), hangs=True))
    quick = await world.assistant(admin, say("done"))
    root = await created(admin, slow.agent)
    child = await created(admin, slow.agent, parent_task_id=root["id"])
    grandchild = await created(admin, slow.agent, parent_task_id=child["id"], require_approval=True)
    ended = await created(admin, quick.agent, parent_task_id=root["id"])
    await reached(admin, ended, "completed")
    await reached(admin, root, "in_progress")
    await reached(admin, child, "in_progress")
    cancelled = await admin.ask(200, "DELETE", f"/tasks/{root['id']}", {"reason": "changed my mind"})
    assert (cancelled["status"], cancelled["error"]) == ("cancelled", "changed my mind")
    assert [await status_of(admin, task) for task in (child, grandchild, ended)] == [
        "cancelled",
        "cancelled",
        "completed",
    ]
    assert await admin.ask(200, "DELETE", f"/tasks/{root['id']}") == await admin.ask(
        200, "GET", f"/tasks/{root['id']}"
    )
    refused = await admin.ask(409, "DELETE", f"/tasks/{ended['id']}")
    assert "completed" in refused["message"] and "cancelled" in refused["message"]
    await asyncio.wait_for(slow.brain.cut_off.wait(), 10)
    children = await admin.ask(200, "GET", f"/tasks/{root['id']}/subtasks")
    assert [one["id"] for one in children] == [child["id"], ended["id"]]


async def test_a_gate_is_answered_by_input_and_only_approval_lets_the_call_run(
    world: World, admin: Caller, worker: dict[str, Any]
) -> None:
    for given, is_run in (("approve", True), ("rather not", False)):
        child, brain = await sub_agent(world, admin, say("looked it up"))
        spawn = use(f"spawn_{child}", {"description": "Look it up"})
        tools = {"can_spawn": [child], "confirm_before": [f"spawn_{child}"]}
        assistant = await world.assistant(admin, spawn, say("finished"), **tools)
        task = await created(admin, assistant.agent)
        waiting = await reached(admin, task, "needs_input")
        assert f"spawn_{child}" in waiting["question"] and not brain.requests
        await asked(admin, task, 200, "input", {"input": given})
        done = await reached(admin, task, "completed")
        assert (bool(brain.requests), done["question"]) == (is_run, None)
        await asked(admin, task, 409, "input", {"input": "approve"})


async def test_a_form_parks_the_task_until_its_user_answers(
    world: World, admin: Caller, worker: dict[str, Any]
) -> None:
    form = {
        "output_type": "form",
        "title": "Which?",
        "questions": [{"id": "a", "label": "Which?", "type": "text"}],
    }
    assistant = await world.assistant(
        admin, use("show_structured_output", form), say("Then blue."), tools=["show_structured_output"]
    )
    task = await created(admin, assistant.agent)
    waiting = await reached(admin, task, "needs_input")
    await asked(admin, task, 200, "input", {"input": "the blue one"})
    done = await reached(admin, task, "completed")
    assert (done["result"], done["session_id"]) == ("Then blue.", waiting["session_id"])
    assert assistant.brain.requests[1]["messages"][-1]["content"] == "the blue one"


async def test_a_task_that_is_started_by_hand_is_ended_by_hand(
    world: World, admin: Caller, dsn: str, redis_url: str, keys: Path
) -> None:
    assistant = await world.assistant(admin, say("never asked"))
    one, two = [await created(admin, assistant.agent) for _ in range(2)]
    assert (await asked(admin, one, 200, "start"))["status"] == "in_progress"
    await asked(admin, two, 200, "start")
    async with worker_here(dsn, redis_url, keys):
        await asyncio.sleep(0.5)
    refused = await asked(admin, one, 400, "start")
    assert "in_progress" in refused["message"]
    assert (await asked(admin, one, 200, "complete", {"result": "did it"}))["result"] == "did it"
    await asked(admin, two, 400, "fail", {})
    assert (await asked(admin, two, 200, "fail", {"reason": "no time"}))["error"] == "no time"
    await asked(admin, two, 400, "complete")
    assert assistant.brain.requests == []


async def test_a_task_that_is_completed_by_hand_stops_its_agent(
    world: World, admin: Caller, worker: dict[str, Any]
) -> None:
    assistant = await world.assistant(admin, Reply(text=("late",), hangs=True))
    task = await created(admin, assistant.agent)
    await reached(admin, task, "in_progress")
    await eventually(lambda: _asked(assistant.brain))
    done = await asked(admin, task, 200, "complete", {"result": "by hand"})
    await asyncio.wait_for(assistant.brain.cut_off.wait(), 10)
    assert (await admin.ask(200, "GET", f"/tasks/{task['id']}"))["result"] == done["result"] == "by hand"


async def _asked(brain: Any) -> bool:
    return bool(brain.requests)


@pytest.mark.timeout(120)
async def test_a_worker_that_is_killed_loses_nothing_and_another_goes_on_in_the_same_session(
    world: World, admin: Caller, dsn: str, redis_url: str, keys: Path, database: Database
) -> None:
    child, brain = await sub_agent(world, admin, say("found it"))
    spawn = use(f"spawn_{child}", {"description": "Look"})
    assistant = await world.assistant(admin, spawn, say("late", delay=60), say("The end."), can_spawn=[child])
    task = await created(admin, assistant.agent)
    async with worker_process(dsn, redis_url, keys) as process:
        await eventually(lambda: _so_many(assistant.brain, 2))
        process.kill()
        await process.wait()
    begun = await admin.ask(200, "GET", f"/tasks/{task['id']}")
    assert begun["status"] == "in_progress"
    async with worker_process(dsn, redis_url, keys):
        done = await reached(admin, task, "completed")
    assert (done["result"], done["session_id"]) == ("The end.", begun["session_id"])
    # What was done is not done again: the model was shown it, and told to go on.
    assert len(brain.requests) == 1
    last = assistant.brain.requests[-1]["messages"]
    assert "found it" in str(last) and "interrupted" in last[-1]["content"]
    async with database.any_tenant() as connection:
        rows = await connection.fetch(
            "select status, error_code from turns where session_id = $1 order by number", done["session_id"]
        )
    assert [tuple(row) for row in rows] == [("failed", "interrupted"), ("completed", None)]


async def _so_many(brain: Any, number: int) -> bool:
    return len(brain.requests) >= number


async def test_a_worker_whose_claim_has_been_taken_over_writes_nothing_any_more(
    world: World, admin: Caller, dsn: str, redis_url: str, keys: Path, database: Database
) -> None:
    assistant = await world.assistant(admin, say("from the dead", delay=2), say("from the living"))
    task = await created(admin, assistant.agent)
    async with worker_here(dsn, redis_url, keys) as zombie:
        await eventually(lambda: _so_many(assistant.brain, 1))
        # It does not renew its claim from here on, and does not learn that it has lost it.
        zombie["tasks"].keep_any = _nothing
        async with database.any_tenant() as connection:
            await connection.execute("update tasks set claimed_until = now() where id = $1", task["id"])
        async with worker_here(dsn, redis_url, keys):
            done = await reached(admin, task, "completed")
            await asyncio.sleep(2.5)
    assert done["result"] == "from the living"
    seen = await admin.ask(200, "GET", f"/tasks/{task['id']}")
    messages = (await admin.ask(200, "GET", f"/sessions/{done['session_id']}"))["messages"]
    assert seen == done and "from the dead" not in str(messages)


async def _nothing() -> None:
    await asyncio.sleep(3600)


async def test_a_worker_that_is_told_to_end_hands_its_tasks_over_at_once(
    world: World, admin: Caller, dsn: str, redis_url: str, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weir.agent_engine.task_worker.LAST_SECONDS", 0.2)
    assistant = await world.assistant(admin, say("late", delay=30), say("The end."))
    task = await created(admin, assistant.agent)
    async with worker_here(dsn, redis_url, keys):
        await eventually(lambda: _so_many(assistant.brain, 1))
    async with worker_here(dsn, redis_url, keys):
        assert (await reached(admin, task, "completed"))["result"] == "The end."


async def test_a_task_that_breaks_off_again_and_again_fails(
    world: World, admin: Caller, dsn: str, redis_url: str, keys: Path, database: Database
) -> None:
    task = await created(admin, (await world.assistant(admin, say("ok"))).agent)
    async with database.any_tenant() as connection:
        await connection.execute(
            "update tasks set attempts = $2 where id = $1", task["id"], task_claims.MAX_ATTEMPTS
        )
    async with worker_here(dsn, redis_url, keys):
        assert "broke off" in (await reached(admin, task, "failed"))["error"]


async def test_a_task_without_time_left_has_timed_out(
    world: World, admin: Caller, dsn: str, redis_url: str, keys: Path, database: Database
) -> None:
    assistant = await world.assistant(admin, Reply(hangs=True))
    task = await created(admin, assistant.agent)
    async with database.any_tenant() as connection:
        await connection.execute("update tasks set seconds_left = 1 where id = $1", task["id"])
    async with worker_here(dsn, redis_url, keys):
        assert "30 minutes" in (await reached(admin, task, "failed"))["error"]
    assert (await admin.ask(200, "GET", f"/dispatch/tasks/{task['id']}"))["state"] == "timeout"


async def test_a_task_whose_agent_is_deleted_fails(
    world: World, admin: Caller, dsn: str, redis_url: str, keys: Path
) -> None:
    assistant = await world.assistant(admin, say("ok"))
    task = await created(admin, assistant.agent)
    await admin.ask(204, "DELETE", f"/agents/{assistant.agent}")
    async with worker_here(dsn, redis_url, keys):
        assert assistant.agent in (await reached(admin, task, "failed"))["error"]


async def test_tasks_are_filtered_and_paged(world: World, admin: Caller) -> None:
    one, two = [(await world.assistant(admin)).agent for _ in range(2)]
    made = [await created(admin, agent) for agent in (one, two, one)]
    await admin.ask(200, "DELETE", f"/tasks/{made[0]['id']}")

    async def ids(query: str) -> list[str]:
        listing = await admin.ask(200, "GET", f"/tasks?{query}")
        return [task["id"] for task in listing["tasks"]]

    assert await ids(f"agent={one}&status=pending") == [made[2]["id"]]
    assert await ids(f"agent_name={one}") == [made[2]["id"], made[0]["id"]]
    assert await ids("limit=1&offset=1") == await ids("page=2&per_page=1") == [made[1]["id"]]
    assert await ids("source=agent") == await ids("status=nonsense") == await ids("agent=%00") == []
    assert await ids("nonsense=1") == [task["id"] for task in reversed(made)]
    assert (await admin.ask(200, "GET", "/tasks?limit=2"))["total"] == 3
    await admin.ask(400, "GET", "/tasks?limit=many")


async def test_callers_see_their_own_tasks_and_tenants_theirs(
    world: World, tenant_id: str, admin: Caller, database: Database
) -> None:
    agent = (await world.assistant(admin)).agent
    bob, ann = [world.caller(tenant_id, "tasks", "chat", subject=name) for name in ("bob", "ann")]
    task = await created(bob, agent)
    other_id = str(uuid.uuid4())
    async with database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) values ($1)", other_id)
    stranger = world.caller(other_id)
    own = await created(stranger, (await world.assistant(stranger)).agent)
    for caller in (ann, stranger):
        assert task["id"] not in str(await caller.ask(200, "GET", "/tasks"))
        for method, path in (
            ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/subtasks"), ("POST", "/approve"),
            ("POST", "/start"), ("POST", "/complete"),
        ):  # fmt: skip
            await caller.ask(404, method, f"/tasks/{task['id']}{path}", {} if method == "PATCH" else None)
        await asked(caller, task, 404, "fail", {"reason": "x"})
        await asked(caller, task, 404, "priority", {"priority": 2})
        await asked(caller, task, 404, "input", {"input": "approve"})
        await caller.ask(404, "GET", f"/dispatch/tasks/{task['id']}")
    for field in ({"parent_task_id": task["id"]}, {"blocked_by": [task["id"]]}):
        body = {"agent": own["agent"], "title": "x"} | field
        assert "there is no task" in (await stranger.ask(400, "POST", "/tasks", body))["message"]
    await stranger.ask(400, "POST", "/tasks", {"agent": agent, "title": "x"})
    assert await admin.ask(200, "GET", f"/tasks/{task['id']}") == task


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"title": None}, "title"),
        ({"title": ""}, "title"),
        ({"title": "  "}, "title"),
        ({"title": "x" * 257}, "title"),
        ({"title": 5}, "title"),
        ({"description": "x" * 8193}, "description"),
        ({"description": "x" * 1_000_000}, "description"),
        ({"description": []}, "description"),
        ({"agent": "nobody"}, "agent"),
        ({"agent": ""}, "agent"),
        ({"agent": {}}, "agent"),
        ({"priority": 3}, "priority"),
        ({"priority": True}, "priority"),
        ({"mode": "later"}, "mode"),
        ({"acceptance_criteria": ["x"] * 65}, "acceptance_criteria"),
        ({"acceptance_criteria": ["x" * 513]}, "acceptance_criteria.0"),
        ({"blocked_by": ["task_x"] * 33}, "blocked_by"),
        ({"blocked_by": ["task_x"]}, "blocked_by.0"),
        ({"blocked_by": "task_x"}, "blocked_by"),
        ({"parent_task_id": "task_x"}, "parent_task_id"),
        ({"parent_task_id": 7}, "parent_task_id"),
        ({"require_approval": "yes"}, "require_approval"),
    ],
)
async def test_a_wrong_field_is_told(world: World, admin: Caller, fields: dict[str, Any], path: str) -> None:
    agent = (await world.assistant(admin)).agent
    refusal = await admin.ask(400, "POST", "/tasks", {"agent": agent, "title": "x"} | fields)
    assert refusal["error"] == "invalid_request"
    assert [fault["path"] for fault in refusal["errors"]] == [path]


async def test_bodies_and_ids_that_are_none_are_refused(world: World, admin: Caller) -> None:
    task = await created(admin, (await world.assistant(admin)).agent)
    for body in (None, [], "x", 5):
        await admin.ask(400, "POST", "/tasks", body)
    await admin.ask(400, "POST", "/tasks", {"prompt": "x"})
    for id in ("x", "task_", "task_%00", "..%2f", str(uuid.uuid4()), "x" * 3000):
        assert (await admin.ask(404, "GET", f"/tasks/{id}"))["error"] == "not_found"
    for content in (b"{", b"[]", b'{"result": 5}', b"[" * 100_000):
        answer = await admin.http.post(f"/api/v1/tasks/{task['id']}/complete", content=content)
        assert answer.status_code == 400, answer.text
    for action, body in (
        ("priority", {}),
        ("priority", {"priority": 9}),
        ("input", {"input": ""}),
        ("fail", {"reason": " "}),
    ):
        await asked(admin, task, 400, action, body)
    await asked(admin, task, 409, "input", {"input": "yes"})
    assert await admin.ask(200, "GET", f"/tasks/{task['id']}") == task


async def test_tasks_hang_below_one_another_ten_deep(world: World, admin: Caller) -> None:
    agent = (await world.assistant(admin)).agent
    task = await created(admin, agent)
    for _ in range(9):
        task = await created(admin, agent, parent_task_id=task["id"])
    body = {"agent": agent, "title": "x", "parent_task_id": task["id"]}
    assert "10 deep" in (await admin.ask(400, "POST", "/tasks", body))["message"]


async def test_tasks_never_wait_for_one_another_in_a_circle(world: World, admin: Caller) -> None:
    agent = (await world.assistant(admin)).agent
    one = await created(admin, agent)
    two = await created(admin, agent, blocked_by=[one["id"]])
    three = await created(admin, agent, blocked_by=[two["id"]])
    for blocker in (one, two, three):
        refusal = await admin.ask(400, "PATCH", f"/tasks/{one['id']}", {"blocked_by": [blocker["id"]]})
        assert "circle" in refusal["message"]
    four, five = [await created(admin, agent) for _ in range(2)]
    for _ in range(5):
        answers = await asyncio.gather(
            admin.call("PATCH", f"/tasks/{four['id']}", {"blocked_by": [five["id"]]}),
            admin.call("PATCH", f"/tasks/{five['id']}", {"blocked_by": [four["id"]]}),
        )
        assert sorted(answer.status_code for answer in answers) == [200, 400]
        for task in (four, five):
            await admin.ask(200, "PATCH", f"/tasks/{task['id']}", {"blocked_by": []})


async def test_only_what_has_not_begun_is_said_anew(world: World, admin: Caller) -> None:
    task = await created(admin, (await world.assistant(admin)).agent, description="old")
    changed = await admin.ask(200, "PATCH", f"/tasks/{task['id']}", {"title": "New", "priority": 1})
    assert (changed["title"], changed["description"], changed["priority"]) == ("New", "old", 1)
    await asked(admin, task, 200, "start")
    assert "in_progress" in (await admin.ask(409, "PATCH", f"/tasks/{task['id']}", {"title": "x"}))["message"]


async def test_the_same_request_again_makes_no_second_task(
    world: World, tenant_id: str, admin: Caller
) -> None:
    agent = (await world.assistant(admin)).agent
    body, key = {"agent": agent, "title": "once"}, {"Idempotency-Key": "k"}
    answers = await asyncio.gather(*(admin.call("POST", "/tasks", body, headers=key) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {201}
    [task] = {answer.text: answer.json() for answer in answers}.values()
    await admin.ask(200, "DELETE", f"/tasks/{task['id']}")
    assert (await admin.call("POST", "/tasks", body, headers=key)).json() == task
    assert (await admin.ask(200, "GET", "/tasks"))["total"] == 1
    other = await admin.call("POST", "/tasks", body | {"title": "twice"}, headers=key)
    assert (other.status_code, other.json()["error"]) == (409, "conflict")
    for wrong in ("", "k" * 129):
        answer = await admin.call("POST", "/tasks", body, headers={"Idempotency-Key": wrong})
        assert answer.status_code == 400
    bob = world.caller(tenant_id, "tasks", subject="bob")
    assert (await bob.call("POST", "/tasks", body, headers=key)).json()["id"] != task["id"]


async def test_a_tenant_has_so_many_open_tasks_and_no_more(
    world: World, admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "MOST_OPEN", 2)
    agent = (await world.assistant(admin)).agent
    first, _ = [await created(admin, agent) for _ in range(2)]
    answer = await admin.call("POST", "/tasks", {"agent": agent, "title": "x"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")
    await admin.ask(200, "DELETE", f"/tasks/{first['id']}")
    await created(admin, agent)


async def test_one_tenants_many_tasks_do_not_keep_anothers_waiting(
    world: World, admin: Caller, database: Database, dsn: str, redis_url: str, keys: Path
) -> None:
    crowd = await world.assistant(admin, say("ok", delay=0.5))
    for _ in range(80):
        await created(admin, crowd.agent, priority=2)
    other_id = str(uuid.uuid4())
    async with database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) values ($1)", other_id)
    other = world.caller(other_id)
    task = await created(other, (await world.assistant(other, say("mine"))).agent)
    async with worker_here(dsn, redis_url, keys):
        await reached(other, task, "completed")
        assert (await admin.ask(200, "GET", "/tasks?status=completed"))["total"] <= 40
        for waiting in (await admin.ask(200, "GET", "/tasks?status=pending&limit=100"))["tasks"]:
            # Some end meanwhile.
            assert (await admin.call("DELETE", f"/tasks/{waiting['id']}")).status_code in (200, 409)


async def test_deleting_the_session_of_a_task_takes_the_task_along(
    world: World, admin: Caller, worker: dict[str, Any]
) -> None:
    assistant = await world.assistant(admin, say("late", delay=20))
    task = await created(admin, assistant.agent)
    await eventually(lambda: _so_many(assistant.brain, 1))
    session_id = (await admin.ask(200, "GET", f"/tasks/{task['id']}"))["session_id"]
    await admin.ask(204, "DELETE", f"/sessions/{session_id}")
    await admin.ask(404, "GET", f"/tasks/{task['id']}")


async def test_an_agent_hands_out_tasks_and_reads_their_results(
    world: World, admin: Caller, worker: dict[str, Any]
) -> None:
    helper = await world.assistant(admin, say("Helped."))
    items = [{"title": "Help", "agent_id": helper.agent, "priority": 1}, {"title": "My own"}]
    assistant = await world.assistant(
        admin, use("manage_tasks", {"action": "create", "tasks": items}), say("ok"), tools=["manage_tasks"]
    )
    turn = await admin.chat(assistant.schema)
    assert turn.one("tool_result")["has_error"] is False
    [own, helped] = (await admin.ask(200, "GET", "/tasks?source=agent"))["tasks"]
    assert (await reached(admin, helped, "completed"))["result"] == "Helped."
    # A task without an agent is a note: nobody but its creator does it.
    assert await status_of(admin, own) == "pending"
    packets = await admin.ask(200, "GET", f"/sessions/{turn.session_id}/dispatch-tasks")
    assert [packet["id"] for packet in packets] == [own["id"], helped["id"]]


async def test_an_agent_works_off_its_notes(world: World, admin: Caller) -> None:
    def manage(**arguments: Any) -> Call:
        return Call("manage_tasks", arguments)

    first = Reply(
        calls=(manage(action="create", title="one"), manage(action="create", title="two", priority=2))
    )
    assistant = await world.assistant(admin, first, say("ok"), tools=["manage_tasks"])
    turn = await admin.chat(assistant.schema)
    two, one = (await admin.ask(200, "GET", "/tasks"))["tasks"]
    told = {
        "get_next": ({}, two["id"]),
        "start": ({"task_id": one["id"]}, "in_progress"),
        "complete": ({"task_id": one["id"], "result": "did it"}, "completed"),
        "update": ({"task_id": two["id"], "title": "second"}, "second"),
        "create_subtask": ({"parent_task_id": two["id"], "title": "sub"}, "sub"),
        "list_subtasks": ({"parent_task_id": two["id"]}, "sub"),
        "get_ready": ({}, "second"),
        "list": ({}, two["id"]),
        "get": ({"task_id": one["id"]}, "did it"),
        "set_priority": ({"task_id": two["id"], "priority": 1}, '"priority":1'),
        "set_status": ({"task_id": two["id"], "status": "in_progress"}, "in_progress"),
        "fail": ({"task_id": two["id"], "reason": "cannot"}, "failed"),
        "approve": ({"task_id": two["id"]}, "[ERROR] A person approves"),
        "wish": ({}, "[ERROR] manage_tasks has no action"),
        "cancel": ({"task_id": "task_x"}, "[ERROR] There is no task"),
        "assign": ({"task_id": two["id"]}, "[ERROR] manage_tasks needs `agent_id`"),
        "create": ({"title": 5}, "[ERROR]"),
    }
    calls = tuple(manage(action=action, **arguments) for action, (arguments, _) in told.items())
    brain = assistant.brain
    brain._replies[:] = [Reply(calls=calls), say("ok")]
    outputs = (await admin.chat(assistant.schema, session_id=turn.session_id)).of("tool_result")
    for (action, (_, expected)), frame in zip(told.items(), outputs, strict=True):
        assert expected in frame.data["output"], (action, frame.data["output"])


async def test_what_an_agent_creates_for_a_task_hangs_below_it(
    world: World, admin: Caller, worker: dict[str, Any]
) -> None:
    create = Call("manage_tasks", {"action": "create", "title": "part"})
    end = Call("manage_tasks", {"action": "complete", "task_id": "mine"})
    assistant = await world.assistant(admin, Reply(calls=(create, end)), say("ok"), tools=["manage_tasks"])
    task = await created(admin, assistant.agent)
    await reached(admin, task, "completed")
    [part] = await admin.ask(200, "GET", f"/tasks/{task['id']}/subtasks")
    assert (part["title"], part["source"]) == ("part", "agent")


async def test_every_transition_is_counted_and_the_queue_is_measured(
    world: World, admin: Caller, worker: dict[str, Any]
) -> None:
    def counted() -> dict[str, float]:
        return {status: TASK_TRANSITIONS.labels(status)._value.get() for status in task_worker.STATES + ENDS}

    before = counted()
    child, _ = await sub_agent(world, admin, say("found"))
    spawn = use(f"spawn_{child}", {"description": "Look"})
    gated = await world.assistant(
        admin, spawn, say("ok"), can_spawn=[child], confirm_before=[f"spawn_{child}"]
    )
    task = await created(admin, gated.agent, require_approval=True)
    draft = await created(admin, gated.agent, blocked_by=[task["id"]], require_approval=True)
    await worker["tasks"].count_any()
    assert TASK_QUEUE_DEPTH.labels("draft")._value.get() >= 2
    await asked(admin, task, 200, "approve")
    await reached(admin, task, "needs_input")
    await asked(admin, task, 200, "input", {"input": "yes"})
    await reached(admin, task, "completed")
    await admin.ask(200, "DELETE", f"/tasks/{draft['id']}")
    expected = {"draft": 2, "approved": 1, "in_progress": 2, "needs_input": 1, "completed": 1, "cancelled": 1}

    async def is_counted() -> bool:
        return {s: n - before[s] for s, n in counted().items() if n > before[s]} == expected

    await eventually(is_counted, 5)


async def test_what_is_created_below_a_task_while_that_is_cancelled_is_cancelled_too(
    world: World, admin: Caller
) -> None:
    agent = (await world.assistant(admin)).agent
    for _ in range(5):
        root = await created(admin, agent)
        child = await created(admin, agent, parent_task_id=root["id"])
        body = {"agent": agent, "title": "late", "parent_task_id": child["id"]}
        answers = await asyncio.gather(
            admin.call("DELETE", f"/tasks/{root['id']}"),
            *(admin.call("POST", "/tasks", body) for _ in range(6)),
        )
        late = [answer.json()["id"] for answer in answers[1:] if answer.status_code == 201]
        assert all(answer.status_code in (201, 400) for answer in answers[1:])
        assert {await status_of(admin, {"id": id}) for id in late} <= {"cancelled"}


async def test_an_agent_may_cancel_the_task_above_its_own_and_ends_with_it(
    world: World, admin: Caller, worker: dict[str, Any]
) -> None:
    assistant = await world.assistant(admin, say("never"), tools=["manage_tasks"])
    root = await created(admin, assistant.agent)
    await asked(admin, root, 409, "input", {"input": "x"})
    await reached(admin, root, "completed")
    top = await created(admin, assistant.agent, require_approval=True)
    cancel = use("manage_tasks", {"action": "cancel", "task_id": top["id"]})
    assistant.brain._replies[:] = [cancel, say("never")]
    below = await created(admin, assistant.agent, parent_task_id=top["id"])
    await reached(admin, below, "cancelled")
    assert await status_of(admin, top) == "cancelled"


async def test_a_database_that_is_away_for_a_while_does_not_fail_the_task(
    world: World, admin: Caller, worker: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_worker, "BUSY_SECONDS", 0.1)
    real, times = turns.end_turn, iter(range(100))

    async def end_turn(*given: Any) -> bool:
        if next(times) == 0:
            raise DatabaseUnavailable
        return await real(*given)

    monkeypatch.setattr(turns, "end_turn", end_turn)
    assistant = await world.assistant(admin, say("lost"), say("kept"))
    task = await created(admin, assistant.agent)
    assert (await reached(admin, task, "completed"))["result"] == "kept"
