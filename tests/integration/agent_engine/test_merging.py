"""PUT and PATCH change what is sent and nothing else, however the changes follow one another."""

import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.model_server import say
from tests.integration.agent_engine.conftest import Caller, World

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
PATIENT = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def some(optional: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[list[tuple[str, dict[str, Any]]]]:
    """Changes, one after another, of any of the fields."""
    change = st.fixed_dictionaries({}, optional=optional)
    return st.lists(st.tuples(st.sampled_from(["PUT", "PATCH"]), change), max_size=5)


DEFAULTS: dict[str, Any] = {
    "description": "",
    "lifecycle": "persistent",
    "tool_execution": "sequential",
    "max_steps": 50,
    "max_context_size": 16000,
    "max_turn_duration": 120,
    "temperature": None,
    "top_p": None,
    "max_tokens": None,
    "stop_sequences": [],
    "tools": [],
    "can_spawn": [],
    "confirm_before": [],
}
SAID: dict[str, st.SearchStrategy[Any]] = {
    "description": TEXT,
    "lifecycle": st.sampled_from(["persistent", "spawn"]),
    "tool_execution": st.sampled_from(["sequential", "parallel"]),
    "max_steps": st.integers(0, 500),
    "max_context_size": st.integers(1000, 200_000),
    "max_turn_duration": st.integers(1, 3600),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "max_tokens": st.integers(1, 100_000),
    "stop_sequences": st.lists(TEXT.filter(bool), max_size=3, unique=True),
    "tools": st.lists(st.sampled_from(["lake_query", "lake_tables", "manage_tasks"]), unique=True),
    "can_spawn": st.lists(st.sampled_from(["researcher", "writer"]), unique=True),
    "confirm_before": st.lists(st.sampled_from(["lake_query", "send_mail"]), unique=True),
}


@PATIENT
@given(changes=some({name: st.none() | value for name, value in SAID.items()} | {"system": TEXT}))
async def test_an_agent_is_what_was_said_last_of_each_field(
    admin: Caller, changes: list[tuple[str, dict[str, Any]]]
) -> None:
    model = {"name": f"m-{uuid.uuid4().hex[:8]}", "type": "ollama", "model_name": "x"}
    await admin.ask(201, "POST", "/models", model)
    name = f"a-{uuid.uuid4().hex[:8]}"
    expected = await admin.ask(201, "POST", "/agents", {"name": name})
    assert {field: expected[field] for field in DEFAULTS} == DEFAULTS
    for method, change in changes:
        told = await admin.ask(200, method, f"/agents/{name}", change)
        said = {
            field: DEFAULTS[field] if value is None and field in DEFAULTS else value
            for field, value in change.items()
        }
        if "system" in said:
            said["system_prompt"] = said["system"]
        expected |= said
        expected |= {"updated_at": told["updated_at"], "tools_count": len(expected["tools"])}
        assert told == expected
        assert await admin.ask(200, "GET", f"/agents/{expected['id']}") == expected


@PATIENT
@given(
    changes=some(
        {
            "description": TEXT | st.none(),
            "chat_enabled": st.booleans(),
            "entry_agent_id": st.sampled_from(["one", "two", None]),
        }
    )
)
async def test_a_schema_is_what_was_said_last_of_each_field(
    world: World, admin: Caller, changes: list[tuple[str, dict[str, Any]]]
) -> None:
    made = [await world.assistant(admin, say("hi")) for _ in range(2)]
    agents = dict(zip(("one", "two"), made, strict=True))
    name = f"s-{uuid.uuid4().hex[:8]}"
    expected = await admin.ask(201, "POST", "/schemas", {"name": name})
    for method, change in changes:
        body = dict(change)
        if body.get("entry_agent_id"):
            body["entry_agent_id"] = agents[body["entry_agent_id"]].agent
        told = await admin.ask(200, method, f"/schemas/{name}", body)
        if "description" in body:
            expected["description"] = body["description"] or ""
        if "chat_enabled" in body:
            expected["chat_enabled"] = body["chat_enabled"]
        if "entry_agent_id" in body:
            entry = body["entry_agent_id"]
            expected |= {
                "entry_agent_name": entry,
                "entry_agent_id": told["entry_agent_id"],
                "agents": [entry] if entry else [],
                "agents_count": 1 if entry else 0,
            }
        expected["updated_at"] = told["updated_at"]
        assert told == expected == await admin.ask(200, "GET", f"/schemas/{name}")


@PATIENT
@given(
    changes=some(
        {
            "model_name": st.sampled_from(["x", "y"]),
            "api_version": TEXT.filter(bool) | st.none(),
            "base_url": st.sampled_from(["http://127.0.0.1:1", "http://127.0.0.1:2", None]),
            "api_key": st.sampled_from(["", "sk-1", None]),
        }
    )
)
async def test_a_model_is_what_was_said_last_of_each_field(
    admin: Caller, changes: list[tuple[str, dict[str, Any]]]
) -> None:
    name = f"m-{uuid.uuid4().hex[:8]}"
    body = {"name": name, "type": "ollama", "model_name": "x", "api_key": "sk-0"}
    expected = await admin.ask(201, "POST", "/models", body)
    for method, change in changes:
        told = await admin.ask(200, method, f"/models/{name}", change)
        key = change.pop("api_key", "")
        # An empty key keeps what there is; null takes it away.
        has_key = expected["has_api_key"] if key == "" else key is not None
        expected |= change | {"has_api_key": has_key, "updated_at": told["updated_at"]}
        assert told == expected == await admin.ask(200, "GET", f"/models/{expected['id']}")


async def test_what_was_read_can_be_sent_back_with_one_thing_changed(world: World, admin: Caller) -> None:
    """Of two words for one thing, the one that says something new counts."""
    first, second = [await world.assistant(admin, say("hi")) for _ in range(2)]
    path = f"/agents/{first.agent}"
    for change in ({"system": "A."}, {"system_prompt": "B."}, {"model": second.model}):
        read = await admin.ask(200, "GET", path)
        told = await admin.ask(200, "PUT", path, read | change)
        assert told.items() >= change.items()
        assert told["system"] == told["system_prompt"]
    read = await admin.ask(200, "GET", path)
    other = (await admin.ask(200, "GET", f"/models/{first.model}"))["id"]
    assert (await admin.ask(200, "PUT", path, read | {"model_id": other}))["model"] == first.model
    path = f"/schemas/{first.schema}"
    read = await admin.ask(200, "GET", path)
    told = await admin.ask(200, "PUT", path, read | {"entry_agent_name": second.agent})
    assert told["entry_agent_name"] == second.agent


async def test_null_gives_an_agent_the_default_model_and_an_empty_one_changes_nothing(
    world: World, admin: Caller
) -> None:
    first, second = [await world.assistant(admin, say("hi")) for _ in range(2)]
    path = f"/agents/{second.agent}"
    assert (await admin.ask(200, "PATCH", path, {"model": ""}))["model"] == second.model
    assert (await admin.ask(200, "PATCH", path, {"model": None}))["model"] == first.model


@pytest.mark.parametrize("noun", ["agents", "models", "schemas"])
async def test_the_name_may_be_repeated_but_not_changed(world: World, admin: Caller, noun: str) -> None:
    made = await world.assistant(admin, say("hi"))
    path = f"/{noun}/{made.agent}"
    before = await admin.ask(200, "GET", path)
    for method in ("PUT", "PATCH"):
        await admin.ask(200, method, path, {"name": made.agent})
        refusal = await admin.ask(409, method, path, {"name": "another", "description": "x"})
        assert refusal["error"] == "conflict"
    after = await admin.ask(200, "GET", path)
    assert after == before | {"updated_at": after["updated_at"]}


async def test_a_change_counts_from_the_next_turn_on(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("hi"))
    session = (await admin.chat(assistant.schema)).session_id
    await admin.ask(200, "PUT", f"/agents/{assistant.agent}", {"system": "Speak Frisian.", "temperature": 1})
    other = world.models.brain(say("from another model"))
    await admin.chat(assistant.schema, "again", session)
    request = assistant.brain.requests[-1]
    assert "Speak Frisian." in request["messages"][0]["content"]
    assert request["temperature"] == 1
    model = {"model_name": other.name, "base_url": world.models.base_url, "type": "openai_compatible"}
    await admin.ask(201, "POST", "/models", {"name": "other"} | model)
    await admin.ask(200, "PATCH", f"/agents/{assistant.agent}", {"model": "other"})
    assert (await admin.chat(assistant.schema, "again", session)).text == "from another model"
    await admin.ask(200, "PATCH", f"/schemas/{assistant.schema}", {"chat_enabled": False})
    refusal = await admin.call("POST", f"/schemas/{assistant.schema}/chat", {"message": "hi"})
    assert refusal.status_code == 403
