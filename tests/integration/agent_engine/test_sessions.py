"""Sessions: opened, named, listed by filter, read, and whose they are."""

import uuid

from tests.fakes.model_server import say, use
from tests.integration.agent_engine.conftest import Caller, World


async def test_a_session_can_be_opened_before_its_first_message(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("hi"))
    opened = await admin.ask(
        201, "POST", "/sessions", {"title": "Plans", "schema_id": assistant.schema, "metadata": {"tab": 1}}
    )
    assert (opened["title"], opened["schema"], opened["agent"]) == (
        "Plans",
        assistant.schema,
        assistant.agent,
    )
    assert (opened["status"], opened["message_count"], opened["metadata"]) == ("active", 0, {"tab": 1})
    await admin.chat(assistant.schema, "hello", opened["id"])
    read = await admin.ask(200, "GET", f"/sessions/{opened['id']}")
    assert (read["title"], read["message_count"]) == ("Plans", 2)


async def test_a_session_without_a_schema_takes_that_of_its_first_message(
    world: World, admin: Caller
) -> None:
    id = str(uuid.uuid4())
    await admin.ask(201, "POST", "/sessions", {"id": id})
    await admin.ask(409, "POST", "/sessions", {"id": id})
    assistant, other = await world.assistant(admin, say("hi")), await world.assistant(admin, say("no"))
    await admin.chat(assistant.schema, "hello there", id)
    read = await admin.ask(200, "GET", f"/sessions/{id}")
    assert (read["schema"], read["title"]) == (assistant.schema, "hello there")
    await admin.ask(400, "POST", f"/schemas/{other.schema}/chat", {"message": "x", "session_id": id})


async def test_a_session_that_cannot_be_is_refused(admin: Caller) -> None:
    for body in (
        {"id": "no-uuid"},
        {"schema_id": "nobody"},
        {"schema_id": "Not a name"},
        {"title": "x" * 201},
        {"metadata": {"x": "y" * 17_000}},
        {"metadata": []},
    ):
        await admin.ask(400, "POST", "/sessions", body)
    assert (await admin.ask(200, "GET", "/sessions"))["total"] == 0


async def test_a_change_keeps_what_it_leaves_out_and_an_empty_one_does_nothing(admin: Caller) -> None:
    opened = await admin.ask(201, "POST", "/sessions", {"title": "one"})
    path = f"/sessions/{opened['id']}"
    assert await admin.ask(200, "PUT", path, {}) == opened
    changed = await admin.ask(200, "PUT", path, {"status": "expired"})
    assert (changed["title"], changed["status"]) == ("one", "expired")
    assert (await admin.ask(200, "PUT", path, {"title": "two"}))["status"] == "expired"
    await admin.ask(400, "PUT", path, {"status": "odd"})
    await admin.ask(404, "PUT", f"/sessions/{uuid.uuid4()}", {"title": "x"})


async def test_only_an_administrator_opens_sessions_for_others(
    world: World, tenant_id: str, admin: Caller
) -> None:
    opened = await admin.ask(201, "POST", "/sessions", {"user_sub": "ann"})
    ann, bob = (world.caller(tenant_id, "chat", subject=name) for name in ("ann", "bob"))
    await ann.ask(200, "GET", f"/sessions/{opened['id']}")
    await ann.ask(200, "PUT", f"/sessions/{opened['id']}", {"title": "mine"})
    for method, path in (("GET", ""), ("GET", "/messages"), ("GET", "/events"), ("PUT", ""), ("DELETE", "")):
        await bob.ask(404, method, f"/sessions/{opened['id']}{path}", {})
    await bob.ask(403, "POST", "/sessions", {"user_sub": "ann"})


async def test_filters_and_pages_choose_among_sessions(world: World, tenant_id: str, admin: Caller) -> None:
    for name in ("ann", "bob", "ann"):
        await admin.ask(201, "POST", "/sessions", {"user_sub": name})
    listed = await admin.ask(200, "GET", "/sessions?user_sub=ann&page=2&per_page=1")
    assert (listed["total"], len(listed["sessions"]), listed["page"], listed["total_pages"]) == (2, 1, 2, 2)
    assert (listed["limit"], listed["offset"]) == (1, 1)
    bob = world.caller(tenant_id, "chat", subject="bob")
    assert [s["user_sub"] for s in (await bob.ask(200, "GET", "/sessions?user_sub=ann"))["sessions"]] == [
        "bob"
    ]
    assert (await admin.ask(200, "GET", "/sessions?from=2020-01-01&status=active"))["total"] == 3
    assert (await admin.ask(200, "GET", "/sessions?to=2020-01-01T00:00:00%2B02:00"))["total"] == 0


async def test_messages_are_everything_in_its_order_and_results_are_kept_clean(
    world: World, admin: Caller
) -> None:
    assistant = await world.assistant(admin, use("x", {"n": 1}, after=("Hm.",)), say("Done."))
    session_id = (await admin.chat(assistant.schema)).session_id
    entries = await admin.ask(200, "GET", f"/sessions/{session_id}/messages")
    kinds = ["user_message", "assistant_message", "tool_call", "tool_result", "assistant_message"]
    assert [entry["event_type"] for entry in entries] == kinds
    assert entries[2]["call_id"] == entries[3]["call_id"]
    assert "<tool_output>" not in entries[3]["payload"]["content"]
    assert "<tool_output>" in assistant.brain.requests[1]["messages"][-1]["content"]
