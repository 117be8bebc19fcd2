"""Models, agents and schemas: what may be said of them, what is refused, and that keys never come out."""

import asyncio
import uuid

import pytest
from tests.fakes.model_server import Reply, say, use
from tests.integration.agent_engine.conftest import Caller, World

TYPES = "ollama openai_compatible anthropic azure_openai google openrouter deepseek mistral xai zai"


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


async def model(admin: Caller, **fields: object) -> dict:
    body = {"name": unique("m"), "type": "ollama", "model_name": "llama3.2"} | fields
    return await admin.ask(201, "POST", "/models", body)


async def agent(admin: Caller, **fields: object) -> dict:
    return await admin.ask(201, "POST", "/agents", {"name": unique("a")} | fields)


async def test_every_documented_type_is_accepted_in_its_usual_spellings(admin: Caller) -> None:
    made = [
        (await model(admin, type=kind))["type"] for kind in [*TYPES.split(), "openai-compatible", "openai"]
    ]
    assert made == [*TYPES.split(), "openai_compatible", "openai_compatible"]


async def test_a_model_has_the_documented_shape_and_its_key_never_comes_out(admin: Caller, database) -> None:
    made = await model(admin, api_key="sk-secret-1234", base_url="http://localhost:11434")
    assert isinstance(made["id"], int)
    assert made["has_api_key"] is True
    assert made["kind"] == "chat"
    assert made["created_at"].endswith("Z")
    listing = (await admin.call("GET", "/models")).text
    assert made["name"] in listing
    assert "sk-secret-1234" not in listing + str(made)
    async with database.any_tenant() as connection:
        sealed = await connection.fetchval("select api_key_sealed from models where id = $1", made["id"])
    assert b"sk-secret-1234" not in sealed


async def test_a_model_is_found_by_its_name_and_by_its_id(admin: Caller) -> None:
    made = await model(admin)
    assert await admin.ask(200, "GET", f"/models/{made['name']}") == made
    assert await admin.ask(200, "GET", f"/models/{made['id']}") == made


async def test_changing_a_model_merges_and_an_empty_key_keeps_the_old_one(
    world: World, admin: Caller
) -> None:
    assistant = await world.assistant(admin, say("hi"))
    path = f"/models/{assistant.model}"
    before = await admin.ask(200, "GET", path)
    after = await admin.ask(200, "PUT", path, {"api_key": "", "api_version": "v"})
    assert after == before | {"api_version": "v", "updated_at": after["updated_at"]}
    await admin.chat(assistant.schema)
    assert assistant.brain.headers[-1]["authorization"] == "Bearer sk-test"
    await admin.ask(200, "PATCH", path, {"api_key": "sk-new"})
    await admin.chat(assistant.schema)
    assert assistant.brain.headers[-1]["authorization"] == "Bearer sk-new"
    await admin.ask(409, "PUT", path, {"name": "another"})


async def test_the_first_chat_model_is_the_default_and_there_is_never_a_second(admin: Caller) -> None:
    await model(admin, kind="embedding", embedding_dim=384)
    first = await model(admin)
    second = await model(admin)
    assert (first["is_default"], second["is_default"]) == (True, False)
    assert (await agent(admin))["model"] == first["name"]
    await admin.ask(400, "PUT", f"/models/{first['name']}", {"is_default": False})
    await admin.ask(200, "PUT", f"/models/{second['name']}", {"is_default": True})
    listed = await admin.ask(200, "GET", "/models?kind=chat")
    assert [item["name"] for item in listed if item["is_default"]] == [second["name"]]


async def test_a_model_goes_once_no_agent_uses_it(admin: Caller) -> None:
    made = await model(admin)
    user = await agent(admin)
    refusal = await admin.ask(409, "DELETE", f"/models/{made['name']}")
    assert refusal["error"] == "conflict"
    assert user["name"] in refusal["message"]
    await admin.ask(204, "DELETE", f"/agents/{user['name']}")
    await admin.ask(204, "DELETE", f"/models/{made['name']}")
    await admin.ask(404, "DELETE", f"/models/{made['name']}")


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"type": "abacus"}, "type"),
        ({"kind": "poetry"}, "kind"),
        ({"name": "Not A Label"}, "name"),
        ({"name": "-x"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "chat"}, "name"),
        ({"name": "00000000-0000-0000-0000-000000000001"}, "name"),
        ({"model_name": ""}, "model_name"),
        ({"model_name": 5}, "model_name"),
        ({"base_url": "ftp://example.com"}, "base_url"),
        ({"base_url": "http://169.254.169.254/latest"}, "base_url"),
        ({"base_url": "http://user:secret@example.com"}, "base_url"),
        ({"api_key": "line\nbreak"}, "api_key"),
        ({"embedding_dim": 10**40}, "embedding_dim"),
        ({"embedding_dim": -1}, "embedding_dim"),
    ],
)
async def test_a_model_that_cannot_be_is_refused_with_the_field_at_fault(
    admin: Caller, fields: dict, path: str
) -> None:
    body = {"name": unique("m"), "type": "ollama", "model_name": "x"} | fields
    refusal = await admin.ask(400, "POST", "/models", body)
    assert refusal["error"] == "invalid_request"
    assert [error["path"] for error in refusal["errors"]] == [path]


async def test_names_are_unique_among_their_kind(admin: Caller) -> None:
    made = await model(admin)
    body = {"name": made["name"], "type": "ollama", "model_name": "x"}
    assert (await admin.ask(409, "POST", "/models", body))["error"] == "conflict"
    await admin.ask(201, "POST", "/agents", {"name": made["name"]})
    assert (await admin.ask(409, "POST", "/agents", {"name": made["name"]}))["error"] == "conflict"
    await admin.ask(201, "POST", "/schemas", {"name": made["name"]})
    assert (await admin.ask(409, "POST", "/schemas", {"name": made["name"]}))["error"] == "conflict"


async def test_an_agent_has_the_documented_shapes(admin: Caller) -> None:
    made = await model(admin)
    fields = {
        "tools": ["knowledge_search", "lake_query"],
        "can_spawn": ["researcher"],
        "lifecycle": "spawn",
        "max_steps": 7,
        "max_context_size": 16000,
        "temperature": 0.5,
        "stop_sequences": ["END"],
    }
    created = await agent(admin, model=made["name"], system="Help.", **fields)
    assert await admin.ask(200, "GET", f"/agents/{created['name']}") == created
    assert await admin.ask(200, "GET", f"/agents/{created['id']}") == created
    assert {key: created[key] for key in fields} == fields
    assert created["system"] == created["system_prompt"] == "Help."
    assert (created["model"], created["model_id"], created["mcp_servers"]) == (made["name"], made["id"], [])
    [listed] = await admin.ask(200, "GET", "/agents")
    assert listed.items() <= created.items()
    assert (listed["tools_count"], listed["has_knowledge"]) == (2, False)


async def test_changing_an_agent_merges(admin: Caller) -> None:
    first, second = await model(admin), await model(admin)
    made = await agent(admin, tools=["lake_query"], max_steps=5, temperature=1)
    path = f"/agents/{made['name']}"
    body = {"system": "New.", "model_id": second["id"], "temperature": None, "name": made["name"]}
    changed = await admin.ask(200, "PUT", path, body)
    assert (changed["system_prompt"], changed["model"], changed["temperature"]) == (
        "New.",
        second["name"],
        None,
    )
    assert (changed["tools"], changed["max_steps"]) == (["lake_query"], 5)
    assert made["model"] == first["name"]
    await admin.ask(409, "PATCH", path, {"name": "another"})


@pytest.mark.parametrize(
    ("fields", "path", "hint"),
    [
        ({"model": "nobody"}, "model", "no model 'nobody'"),
        ({"tools": ["lake_qery"]}, "tools.0", "did you mean 'lake_query'"),
        ({"tools": ["knowledge_search", "admin_list_agents"]}, "tools.1", "there is no tool"),
        ({"mcp_servers": ["crm"]}, "mcp_servers.0", "no MCP server 'crm'"),
        ({"knowledge_base_ids": ["x"]}, "knowledge_base_ids.0", "no knowledge base"),
        ({"lifecycle": "eternal"}, "lifecycle", ""),
        ({"max_steps": -1}, "max_steps", ""),
        ({"max_steps": 10**30}, "max_steps", ""),
        ({"temperature": 3}, "temperature", ""),
        ({"top_p": 1.5}, "top_p", ""),
        ({"max_turn_duration": 0}, "max_turn_duration", ""),
        ({"stop_sequences": ["x"] * 17}, "stop_sequences", ""),
        ({"tools": "lake_query"}, "tools", ""),
    ],
)
async def test_an_agent_that_cannot_be_is_refused_with_the_field_at_fault(
    admin: Caller, fields: dict, path: str, hint: str
) -> None:
    await model(admin)
    refusal = await admin.ask(400, "POST", "/agents", {"name": unique("a")} | fields)
    assert refusal["error"] == "invalid_request"
    assert [error["path"] for error in refusal["errors"]] == [path]
    assert hint in refusal["errors"][0]["message"]


async def test_one_answer_tells_every_field_at_fault(admin: Caller) -> None:
    made = await model(admin)
    wrong = {
        "/agents": (
            {"name": "No Name", "max_steps": -1, "tools": ["lake_query", 5], "temperature": "hot"},
            {"name", "max_steps", "tools.1", "temperature"},
        ),
        "/models": (
            {"name": "No Name", "type": "abacus", "model_name": "x", "kind": "poetry", "base_url": "ftp://x"},
            {"name", "type", "kind", "base_url"},
        ),
        "/schemas": ({"name": "No Name", "entry_agent_id": "nobody"}, {"name", "entry_agent_id"}),
    }
    for path, (body, places) in wrong.items():
        refusal = await admin.ask(400, "POST", path, body)
        assert {error["path"] for error in refusal["errors"]} == places
        assert all(error["message"] for error in refusal["errors"])
    await admin.ask(400, "POST", "/models", {})
    body = {
        "name": "chat",
        "model": made["name"] + "x",
        "tools": ["lake_qery", "sql"],
        "mcp_servers": ["crm", "erp"],
        "knowledge_base_ids": ["x"],
        "can_spawn": ["Not A Name"],
    }
    refusal = await admin.ask(400, "POST", "/agents", body)
    places = ["name", "tools.0", "tools.1", "mcp_servers.0", "mcp_servers.1", "knowledge_base_ids.0"]
    assert [error["path"] for error in refusal["errors"]] == [*places, "can_spawn.0", "model"]
    assert f"did you mean '{made['name']}'" in refusal["message"]
    one = await agent(admin)
    refusal = await admin.ask(400, "PUT", f"/agents/{one['name']}", body | {"name": one["name"]})
    assert len(refusal["errors"]) == 7
    assert (await admin.ask(200, "GET", f"/agents/{one['name']}")) == one


@pytest.mark.parametrize(
    "name", ["mcp-servers", "registry", "agent-relations", "a" * 101, "a_b", "a.b", "ü", ""]
)
@pytest.mark.parametrize("noun", ["agents", "models", "schemas"])
async def test_a_name_is_a_label_that_no_path_of_the_platform_needs(
    admin: Caller, noun: str, name: str
) -> None:
    await model(admin)
    body = {"name": name, "type": "ollama", "model_name": "x"}
    refusal = await admin.ask(400, "POST", f"/{noun}", body)
    assert [error["path"] for error in refusal["errors"]] == ["name"]


async def test_everything_is_listed_in_order_and_found_by_name_and_by_id(admin: Caller) -> None:
    await model(admin)
    names = [unique(f"{letter}") for letter in "cab"]
    for noun in ("models", "agents", "schemas"):
        for name in names:
            await admin.ask(201, "POST", f"/{noun}", {"name": name, "type": "ollama", "model_name": "x"})
        listed = await admin.ask(200, "GET", f"/{noun}")
        told = [item["name"] for item in listed if item["name"] in names]
        assert told == (names if noun == "schemas" else sorted(names))
        for item in listed:
            by_id = await admin.ask(200, "GET", f"/{noun}/{item['id']}")
            assert by_id == await admin.ask(200, "GET", f"/{noun}/{item['name']}")
            assert by_id.items() >= item.items()
            assert by_id["created_at"] <= by_id["updated_at"]
    one = await admin.ask(200, "GET", f"/agents/{names[0]}")
    assert await admin.ask(200, "GET", f"/agents/{one['id'].upper()}") == one


async def test_a_model_that_is_needed_keeps_its_kind(admin: Caller) -> None:
    first, second = await model(admin), await model(admin)
    refusal = await admin.ask(400, "PUT", f"/models/{first['name']}", {"kind": "embedding"})
    assert refusal["errors"][0]["path"] == "kind"
    user = await agent(admin, model=second["name"])
    refusal = await admin.ask(409, "PUT", f"/models/{second['name']}", {"kind": "embedding"})
    assert user["name"] in refusal["message"]
    await admin.ask(204, "DELETE", f"/agents/{user['name']}")
    told = await admin.ask(200, "PUT", f"/models/{second['name']}", {"kind": "embedding", "embedding_dim": 4})
    assert told["embedding_dim"] == 4
    for change in ({"kind": "chat"}, {"kind": "chat", "embedding_dim": 5}):
        refusal = await admin.ask(400, "PUT", f"/models/{second['name']}", change)
        assert refusal["errors"][0]["path"] == "embedding_dim"
    await admin.ask(200, "PUT", f"/models/{second['name']}", {"kind": "chat", "embedding_dim": None})


async def test_many_who_make_another_model_the_default_at_once_leave_one(admin: Caller) -> None:
    made = [await model(admin) for _ in range(4)]
    for _ in range(3):
        answers = await asyncio.gather(
            *(admin.call("PUT", f"/models/{one['name']}", {"is_default": True}) for one in made)
        )
        assert [answer.status_code for answer in answers] == [200] * 4
        more = await asyncio.gather(*(model(admin, is_default=True) for _ in range(3)))
        assert len(more) == 3
        listed = await admin.ask(200, "GET", "/models")
        assert [item["is_default"] for item in listed].count(True) == 1


async def test_a_body_needs_no_media_type(admin: Caller) -> None:
    await model(admin)
    for number, media in enumerate(("", "text/plain", "application/x-www-form-urlencoded")):
        response = await admin.http.request(
            "POST",
            "/api/v1/agents",
            content=b'{"name": "plain-%d"}' % number,
            headers={"content-type": media} if media else {},
        )
        assert response.status_code == 201, response.text


async def test_two_deletions_at_once_are_one(admin: Caller) -> None:
    await model(admin)
    for noun in ("models", "agents", "schemas"):
        for _ in range(3):
            name = unique("x")
            await admin.ask(201, "POST", f"/{noun}", {"name": name, "type": "ollama", "model_name": "x"})
            answers = await asyncio.gather(*(admin.call("DELETE", f"/{noun}/{name}") for _ in range(2)))
            assert sorted(answer.status_code for answer in answers) == [204, 404]


async def test_fields_that_nobody_knows_are_ignored(admin: Caller) -> None:
    made = await model(admin, colour="blue", deep={"x": [1]})
    user = await agent(admin, colour="blue")
    assert "colour" not in {**made, **user}
    await admin.ask(200, "PUT", f"/agents/{user['name']}", {"colour": 1})


async def test_an_agent_needs_a_chat_model(admin: Caller) -> None:
    refusal = await admin.ask(400, "POST", "/agents", {"name": "a"})
    assert "default" in refusal["message"]
    embedder = await model(admin, kind="embedding")
    refusal = await admin.ask(400, "POST", "/agents", {"name": "a", "model": embedder["name"]})
    assert "embedding" in refusal["message"]


async def test_a_schema_names_its_entry_agent_and_never_changes_its_name(admin: Caller) -> None:
    await model(admin)
    first, second = await agent(admin), await agent(admin)
    body = {"name": unique("s"), "entry_agent_id": first["name"], "description": "d"}
    made = await admin.ask(201, "POST", "/schemas", body)
    assert (made["entry_agent_id"], made["entry_agent_name"]) == (first["id"], first["name"])
    assert (made["agents"], made["chat_enabled"]) == ([first["name"]], False)
    path = f"/schemas/{made['name']}"
    changed = await admin.ask(200, "PUT", path, {"entry_agent": second["id"], "chat_enabled": True})
    assert (changed["entry_agent_name"], changed["description"]) == (second["name"], "d")
    assert (await admin.ask(409, "PATCH", path, {"name": "renamed"}))["error"] == "conflict"
    assert (await admin.ask(400, "PUT", path, {"entry_agent_id": "nobody"}))["errors"]
    await admin.ask(204, "DELETE", f"/agents/{second['name']}")
    assert (await admin.ask(200, "GET", f"/schemas/{made['id']}"))["entry_agent_id"] is None
    await admin.ask(204, "DELETE", path)
    await admin.ask(404, "GET", path)


async def test_sessions_outlive_their_schema(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("hi"))
    session_id = (await admin.chat(assistant.schema)).session_id
    assert (await admin.ask(200, "GET", f"/schemas/{assistant.schema}"))["chat_last_fired_at"]
    await admin.ask(204, "DELETE", f"/schemas/{assistant.schema}")
    session = await admin.ask(200, "GET", f"/sessions/{session_id}")
    assert (session["schema"], session["schema_id"]) == (assistant.schema, None)


async def test_sessions_are_listed_newest_first_and_filtered(
    world: World, tenant_id: str, admin: Caller
) -> None:
    assistant = await world.assistant(admin, say("hi"))
    ids = [(await admin.chat(assistant.schema, f"message {n}")).session_id for n in range(3)]
    listing = await admin.ask(200, "GET", f"/sessions?agent={assistant.agent}&limit=2")
    assert [session["id"] for session in listing["sessions"]] == ids[:0:-1]
    assert (listing["total"], listing["limit"], listing["offset"]) == (3, 2, 0)
    first = listing["sessions"][0]
    assert (first["agent"], first["message_count"], first["title"]) == (assistant.agent, 2, "message 2")
    assert (first["status"], first["user_sub"]) == ("completed", "local-admin")
    mine = world.caller(tenant_id, "chat", subject="somebody")
    assert (await mine.ask(200, "GET", "/sessions"))["sessions"] == []
    own = (await mine.chat(assistant.schema)).session_id
    assert [s["id"] for s in (await mine.ask(200, "GET", "/sessions"))["sessions"]] == [own]
    assert (await admin.ask(200, "GET", "/sessions"))["total"] == 4
    await admin.ask(200, "GET", f"/sessions/{own}")


async def test_a_working_model_is_verified_with_its_tools(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin, say("hi"), use("calculator", {"expression": "1+1"}))
    report = await admin.ask(200, "POST", f"/models/{assistant.model}/verify")
    assert (report["connectivity"], report["tool_calling"], report["error"]) == ("ok", "supported", None)
    assert report["model_name"] == assistant.brain.name
    assert report["provider"] == "openai_compatible"
    assert report["response_time_ms"] >= 0


@pytest.mark.parametrize(
    ("replies", "connectivity", "tool_calling"),
    [
        ([say("hi")], "ok", "not_detected"),
        ([say("hi"), Reply(status=400)], "ok", "not_detected"),
        ([Reply(status=401)], "error", "skipped"),
    ],
)
async def test_what_a_model_cannot_do_is_reported(
    world: World, admin: Caller, replies: list[Reply], connectivity: str, tool_calling: str
) -> None:
    assistant = await world.assistant(admin, *replies)
    report = await admin.ask(200, "POST", f"/models/{assistant.model}/verify")
    assert (report["connectivity"], report["tool_calling"]) == (connectivity, tool_calling)
    # Nothing of the other protocol is at that address.
    await admin.ask(200, "PUT", f"/models/{assistant.model}", {"type": "anthropic"})
    report = await admin.ask(200, "POST", f"/models/{assistant.model}/verify")
    assert (report["connectivity"], report["tool_calling"]) == ("error", "skipped")
    assert report["error"]


async def test_the_gateway_is_told_how_many_agents_there_are(world: World, admin: Caller) -> None:
    await model(admin)
    await agent(admin)
    response = await admin.http.get("/internal/agents-count")
    assert response.json() == {"agents_count": 1}
