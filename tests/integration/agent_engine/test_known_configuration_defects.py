"""What older agent engines got wrong in models, agents and schemas, where no other test here proves it.

The whole list, with the test that proves each item, is `docs/decisions/0027-known-defects.md`.
"""

import asyncio
import uuid

import pytest
from tests.fakes.model_server import say
from tests.integration.agent_engine.conftest import Caller, World

from weir_shared.db.pool import Database

SPELLINGS = {
    "openrouter": "openrouter",
    "OpenRouter": "openrouter",
    "openai-compatible": "openai_compatible",
    "openai": "openai_compatible",
    "azure": "azure_openai",
    "gemini": "google",
    "claude": None,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_type_may_be_changed_in_each_of_its_spellings(
    admin: Caller, method: str, spelling: str
) -> None:
    body = {"name": f"m-{uuid.uuid4().hex[:8]}", "type": "ollama", "model_name": "x"}
    await admin.ask(201, "POST", "/models", body)
    meant = SPELLINGS[spelling]
    changed = await admin.ask(200 if meant else 400, method, f"/models/{body['name']}", {"type": spelling})
    assert changed.get("type") == meant


@pytest.mark.parametrize("name", ["wait", "manage_subtasks", "ask_user", "confirm", "admin_create_agent"])
async def test_a_tool_that_an_older_engine_had_is_refused_when_it_is_configured(
    world: World, admin: Caller, name: str
) -> None:
    assistant = await world.assistant(admin)
    for method, path, body in (
        ("POST", "/agents", {"name": "older"}),
        ("PUT", f"/agents/{assistant.agent}", {}),
    ):
        refusal = await admin.ask(400, method, path, body | {"tools": ["lake_query", name]})
        assert [error["path"] for error in refusal["errors"]] == ["tools.1"]
    assert (await admin.ask(200, "GET", f"/agents/{assistant.agent}"))["tools"] == []


async def test_an_agent_is_not_given_to_itself(world: World, admin: Caller) -> None:
    name = f"a-{uuid.uuid4().hex[:8]}"
    await world.assistant(admin)
    refusal = await admin.ask(400, "POST", "/agents", {"name": name, "can_spawn": ["later", name]})
    assert [error["path"] for error in refusal["errors"]] == ["can_spawn.1"]
    made = await admin.ask(201, "POST", "/agents", {"name": name, "can_spawn": ["later"]})
    for itself in (name, made["id"]):
        refusal = await admin.ask(400, "PUT", f"/agents/{name}", {"can_spawn": [itself]})
        assert "itself" in refusal["message"]
    assert await admin.ask(200, "GET", f"/agents/{name}") == made


@pytest.mark.parametrize("name", ["", " ", " x", "x\n", "a\r\nb", "a\tb", "\u2028"])
async def test_a_models_own_name_is_one_that_a_provider_can_know(admin: Caller, name: str) -> None:
    body = {"name": f"m-{uuid.uuid4().hex[:8]}", "type": "ollama", "model_name": name}
    refusal = await admin.ask(400, "POST", "/models", body)
    assert [error["path"] for error in refusal["errors"]] == ["model_name"]
    await admin.ask(201, "POST", "/models", body | {"model_name": "org/llama 3:8b"})
    await admin.ask(400, "PUT", f"/models/{body['name']}", {"model_name": name})


async def test_every_change_answers_with_what_it_made(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin)
    for path in (f"/schemas/{assistant.schema}", f"/agents/{assistant.agent}"):
        for method in ("PUT", "PATCH"):
            told = await admin.ask(200, method, path, {"description": method})
            assert told["description"] == method
            assert told == await admin.ask(200, "GET", path)


async def test_many_changes_of_one_thing_at_once_are_all_taken(world: World, admin: Caller) -> None:
    assistant = await world.assistant(admin)
    paths = (f"/schemas/{assistant.schema}", f"/agents/{assistant.agent}", f"/models/{assistant.model}")
    for path in paths:
        answers = await asyncio.gather(
            *(
                admin.call(("PUT", "PATCH")[n % 2], path, {"description": f"{n}", "api_version": f"{n}"})
                for n in range(8)
            )
        )
        assert {answer.status_code for answer in answers} == {200}, path


async def test_a_key_of_another_row_opens_nothing_and_the_session_goes_on(
    world: World, admin: Caller, database: Database, tenant_id: str
) -> None:
    one, other = await world.assistant(admin, say("hi")), await world.assistant(admin, say("hi"))
    async with database.tenant(tenant_id) as connection:
        await connection.execute(
            """
            update models set api_key_sealed =
                (select api_key_sealed from models where tenant_id = $1 and name = $3)
            where tenant_id = $1 and name = $2
            """,
            tenant_id,
            one.model,
            other.model,
        )
    turn = await admin.chat(one.schema)
    assert turn.one("error")["code"] == "model_refused"
    assert not one.brain.requests
    await admin.ask(200, "PUT", f"/models/{one.model}", {"api_key": "sk-again"})
    assert (await admin.chat(one.schema, "again", turn.session_id)).text == "hi"
