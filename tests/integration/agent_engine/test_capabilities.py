"""What an agent can do besides its tools, what it is doing, and what its summary says of both."""

import uuid

import pytest
from tests.fakes.model_server import Reply, say, use
from tests.integration.agent_engine.conftest import Caller, World


@pytest.fixture
async def path(world: World, admin: Caller) -> str:
    return f"/agents/{(await world.assistant(admin, say('hi'))).agent}"


async def test_a_capability_is_made_changed_and_deleted(admin: Caller, path: str) -> None:
    body = {"type": "memory", "config": {"max_entries": 5, "own": "kept"}}
    made = await admin.ask(201, "POST", f"{path}/capabilities", body)
    assert (made["config"], made["enabled"]) == (body["config"], True)
    one = f"{path}/capabilities/{made['id']}"
    change = {"config": {"retention_days": 7, "own": None}, "type": "memory"}
    changed = await admin.ask(200, "PUT", one, change)
    assert changed["config"] == {"max_entries": 5, "retention_days": 7}
    assert (await admin.ask(200, "PATCH", one, {"enabled": False}))["config"] == changed["config"]
    [listed] = await admin.ask(200, "GET", f"{path}/capabilities")
    assert (listed["id"], listed["enabled"]) == (made["id"], False)
    assert (await admin.ask(409, "PUT", one, {"type": "knowledge"}))["error"] == "conflict"
    await admin.ask(204, "DELETE", one)
    await admin.ask(404, "DELETE", one)
    await admin.ask(404, "PUT", one, {})
    assert await admin.ask(200, "GET", f"{path}/capabilities") == []


async def test_an_agent_has_one_capability_of_each_type(admin: Caller, path: str) -> None:
    await admin.ask(201, "POST", f"{path}/capabilities", {"type": "memory"})
    refusal = await admin.ask(409, "POST", f"{path}/capabilities", {"type": "memory", "enabled": False})
    assert refusal["error"] == "conflict"
    await admin.ask(201, "POST", f"{path}/capabilities", {"type": "knowledge"})
    types = [item["type"] for item in await admin.ask(200, "GET", f"{path}/capabilities")]
    assert types == ["memory", "knowledge"]


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["type"]),
        ({"type": None}, ["type"]),
        ({"type": ""}, ["type"]),
        ({"type": "guardrail"}, ["type"]),
        ({"type": 5, "enabled": "yes", "config": []}, ["type", "config", "enabled"]),
        ({"type": "memory", "config": {"max_entries": -1, "retention_days": "x"}}, ["max_entries", "retention_days"]),
        ({"type": "knowledge", "config": {"top_k": 21, "similarity_threshold": 2}}, ["top_k", "similarity_threshold"]),
        ({"type": "knowledge", "config": {"embedding_model_id": "nobody"}}, ["embedding_model_id"]),
        ({"type": "memory", "config": {"x": "y" * 20_000}}, [""]),
    ],
)  # fmt: skip
async def test_a_capability_that_cannot_be_is_refused_with_every_field_at_fault(
    admin: Caller, path: str, body: dict, paths: list[str]
) -> None:
    refusal = await admin.ask(400, "POST", f"{path}/capabilities", body)
    told = [error["path"].removeprefix("config").removeprefix(".") for error in refusal["errors"]]
    assert sorted(told) == sorted("" if part == "config" else part for part in paths)
    assert await admin.ask(200, "GET", f"{path}/capabilities") == []


async def test_knowledge_needs_a_model_that_embeds(world: World, admin: Caller, path: str) -> None:
    chat = path.removeprefix("/agents/")
    body = {"type": "knowledge", "config": {"embedding_model_id": chat}}
    refusal = await admin.ask(400, "POST", f"{path}/capabilities", body)
    assert "embedding" in refusal["message"]
    model = {"name": "embedder", "type": "ollama", "model_name": "x", "kind": "embedding"}
    made = await admin.ask(201, "POST", "/models", model | {"embedding_dim": 384})
    body["config"]["embedding_model_id"] = made["id"]
    await admin.ask(201, "POST", f"{path}/capabilities", body)


async def test_the_summary_counts_every_tool_that_the_agent_has(
    world: World, admin: Caller, path: str
) -> None:
    other = (await world.assistant(admin, say("hi"))).agent
    fields = {"tools": ["lake_query", "memory_store"], "can_spawn": [other, "one-to-come"]}
    await admin.ask(200, "PUT", path, fields)
    made = await admin.ask(201, "POST", f"{path}/capabilities", {"type": "memory"})
    told = await admin.ask(200, "GET", path)
    # lake_query, memory_store, memory_recall and spawn_<other>: who does not exist cannot be spawned.
    assert (told["tools_count"], told["has_knowledge"]) == (4, False)
    await admin.ask(200, "PUT", f"{path}/capabilities/{made['id']}", {"enabled": False})
    assert (await admin.ask(200, "GET", path))["tools_count"] == 3


async def test_who_may_be_spawned_is_kept_by_name(world: World, admin: Caller, path: str) -> None:
    other = await admin.ask(200, "GET", f"/agents/{(await world.assistant(admin, say('hi'))).agent}")
    told = await admin.ask(200, "PUT", path, {"can_spawn": [other["id"], other["name"], "one-to-come"]})
    assert told["can_spawn"] == [other["name"], "one-to-come"]
    stranger = str(uuid.uuid4())
    refusal = await admin.ask(400, "PUT", path, {"can_spawn": ["fine", "Not A Name", stranger]})
    assert [error["path"] for error in refusal["errors"]] == ["can_spawn.1", "can_spawn.2"]


async def test_a_lifecycle_tells_what_an_agent_is_doing_in_a_session(
    world: World, admin: Caller, tenant_id: str
) -> None:
    assistant = await world.assistant(admin, say("hi"), max_context_size=5000)
    path = f"/agents/{assistant.agent}/lifecycle"
    rest = {"mode": "persistent", "tasks_handled": 0, "context_tokens": 0, "max_context": 5000}
    assert await admin.ask(200, "GET", path) == rest | {"state": "no_session"}
    for nothing in (str(uuid.uuid4()), "not-a-session", "%00"):
        assert await admin.ask(200, "GET", f"{path}?session_id={nothing}") == rest | {"state": "idle"}
    session = (await admin.chat(assistant.schema)).session_id
    await admin.chat(assistant.schema, "again", session)
    told = await admin.ask(200, "GET", f"{path}?session_id={session}")
    assert (told["state"], told["tasks_handled"]) == ("ready", 2)
    stranger = world.caller(tenant_id, "agents:read", subject="somebody")
    assert (await stranger.ask(200, "GET", f"{path}?session_id={session}"))["state"] == "idle"
    await admin.ask(200, "PUT", f"/agents/{assistant.agent}", {"lifecycle": "spawn"})
    told = await admin.ask(200, "GET", f"{path}?session_id={session}")
    assert (told["mode"], told["state"], told["context_tokens"]) == ("spawn", "finished", 0)
    await admin.ask(404, "GET", "/agents/nobody/lifecycle")


async def test_an_agent_whose_last_turn_failed_is_degraded_until_the_next_one(
    world: World, admin: Caller
) -> None:
    assistant = await world.assistant(admin, Reply(status=401), say("Better."))
    session = (await admin.chat(assistant.schema)).session_id
    path = f"/agents/{assistant.agent}/lifecycle?session_id={session}"
    told = await admin.ask(200, "GET", path)
    assert (told["state"], told["tasks_handled"]) == ("degraded", 0)
    await admin.chat(assistant.schema, "again", session)
    told = await admin.ask(200, "GET", path)
    # What the model's server counted of its last prompt.
    assert (told["state"], told["tasks_handled"], told["context_tokens"]) == ("ready", 1, 7)


async def test_the_context_of_a_sub_agent_is_estimated_from_what_it_did(world: World, admin: Caller) -> None:
    below = await world.assistant(admin, say("word " * 400))
    hand_on = use(f"spawn_{below.agent}", {"description": "Look."})
    above = await world.assistant(admin, hand_on, say("ok"), can_spawn=[below.agent])
    session = (await admin.chat(above.schema)).session_id
    told = await admin.ask(200, "GET", f"/agents/{below.agent}/lifecycle?session_id={session}")
    assert told["state"] == "ready"
    assert 500 <= told["context_tokens"] < 600
