"""A caller's own model for one request: only where it is allowed, never kept, never seen."""

import uuid
from typing import Any

import pytest
import structlog
from tests.fakes.model_server import Reply, say
from tests.integration.agent_engine.conftest import Caller, World


@pytest.fixture
def key() -> str:
    return f"own-key-{uuid.uuid4().hex}"


def headers(world: World, brain: Any, key: str, **changed: str | None) -> dict[str, str]:
    given = {
        "X-Model-Provider": "OpenAI-Compatible",
        "X-Model-API-Key": key,
        "X-Model-Name": brain.name,
        "X-Model-Base-URL": world.models.base_url,
    } | {name.replace("_", "-"): value for name, value in changed.items()}
    return {name: value for name, value in given.items() if value is not None}


async def chat(caller: Caller, schema: str, headers: dict[str, str]) -> Any:
    body = {"message": "hi", "stream": False}
    return await caller.call("POST", f"/schemas/{schema}/chat", body, headers=headers)


async def allow(caller: Caller, value: Any = True, type: str = "openai_compatible") -> None:
    await caller.ask(200, "PUT", f"/settings/byok.{type}", {"value": value})


async def test_an_own_model_answers_one_request_and_leaves_nothing_behind(
    world: World, admin: Caller, database: Any, key: str
) -> None:
    assistant = await world.assistant(admin, say("configured"))
    brain = world.models.brain(say("own"))
    await allow(admin)
    with structlog.testing.capture_logs() as logs:
        answer = await chat(admin, assistant.schema, headers(world, brain, key))
    assert answer.json()["message"] == "own"
    assert brain.headers[-1]["authorization"] == f"Bearer {key}"
    assert not assistant.brain.requests
    assert key not in str(logs)
    session = await admin.ask(200, "GET", f"/sessions/{answer.json()['session_id']}")
    assert key not in str(session)
    tables = ("models", "turns", "messages", "sessions", "agents", "engine_settings")
    async with database.any_tenant() as connection:
        for table in tables:
            found = await connection.fetchval(
                f"select count(*) from {table} as t where t::text like $1",
                f"%{key}%",
            )
            assert found == 0, table
    again = await chat(admin, assistant.schema, {})
    assert again.json()["message"] == "configured"


async def test_own_models_are_refused_until_their_provider_is_allowed(
    world: World, admin: Caller, key: str
) -> None:
    assistant, brain = await world.assistant(admin), world.models.brain(say("own"))
    given = headers(world, brain, key)
    assert (await chat(admin, assistant.schema, given)).status_code == 403
    for value in (False, None):
        await allow(admin, value)
        assert (await chat(admin, assistant.schema, given)).status_code == 403
    await allow(admin, type="anthropic")
    refused = await chat(admin, assistant.schema, given)
    assert refused.status_code == 403
    assert refused.json()["error"] == "forbidden"
    assert key not in refused.text
    assert not brain.requests
    await allow(admin)
    assert (await chat(admin, assistant.schema, given)).status_code == 200
    sessions = await admin.ask(200, "GET", "/sessions")
    assert sessions["total"] == 1


async def test_the_older_names_of_the_headers_are_understood_too(
    world: World, admin: Caller, key: str
) -> None:
    assistant, brain = await world.assistant(admin, say("configured")), world.models.brain(say("own"))
    given = {
        "X-BYOK-Provider": "openai_compatible",
        "X-BYOK-API-Key": key,
        "X-BYOK-Model": brain.name,
        "X-BYOK-Base-URL": world.models.base_url,
    }
    assert (await chat(admin, assistant.schema, given)).status_code == 403
    await allow(admin)
    assert (await chat(admin, assistant.schema, given)).json()["message"] == "own"
    assert brain.headers[0]["authorization"] == f"Bearer {key}"


@pytest.mark.parametrize(
    "changed",
    [
        {"X_Model_API_Key": None},
        {"X_Model_API_Key": ""},
        {"X_Model_Provider": None},
        {"X_Model_Provider": "abacus"},
        {"X_Model_Base_URL": "ftp://h"},
        {"X_Model_Base_URL": "http://user:pw@h"},
        {"X_Model_Base_URL": "http://169.254.169.254/"},
        {"X_Model_Name": "x" * 300},
    ],
)
async def test_an_own_model_that_is_not_whole_is_an_invalid_request(
    world: World, admin: Caller, key: str, changed: dict[str, str | None]
) -> None:
    assistant, brain = await world.assistant(admin), world.models.brain(say("own"))
    await allow(admin)
    refused = await chat(admin, assistant.schema, headers(world, brain, key, **changed))
    assert refused.status_code == 400
    assert refused.json()["error"] == "invalid_request"
    assert key not in refused.text
    assert not brain.requests
    assert not assistant.brain.requests


async def test_without_a_name_the_configured_model_is_asked_with_ones_own_key(
    world: World, admin: Caller, key: str
) -> None:
    assistant = await world.assistant(admin, say("hi"))
    await allow(admin)
    given = headers(world, assistant.brain, key, X_Model_Name=None)
    assert (await chat(admin, assistant.schema, given)).json()["message"] == "hi"
    assert assistant.brain.headers[-1]["authorization"] == f"Bearer {key}"


async def test_one_tenant_allows_nothing_for_another(
    world: World, admin: Caller, database: Any, key: str
) -> None:
    await allow(admin)
    other_id = str(uuid.uuid4())
    async with database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) values ($1)", other_id)
    other = world.caller(other_id)
    assistant, brain = await world.assistant(other), world.models.brain(say("own"))
    assert (await chat(other, assistant.schema, headers(world, brain, key))).status_code == 403
    assert await other.ask(200, "GET", "/settings") == []
    await other.http.aclose()


async def test_a_provider_that_refuses_ones_own_key_says_so_without_it(
    world: World, admin: Caller, key: str
) -> None:
    assistant, brain = await world.assistant(admin, say("configured")), world.models.brain(Reply(status=401))
    await allow(admin)
    answer = await chat(admin, assistant.schema, headers(world, brain, key))
    assert answer.json()["error"]["code"] == "model_unauthorized"
    assert key not in answer.text
    assert not assistant.brain.requests


@pytest.mark.parametrize("key", ["", "a b", "x" * 201, "ü", "-x"])
async def test_a_setting_needs_a_key_that_fits_a_path(admin: Caller, key: str) -> None:
    refused = await admin.call("PUT", f"/settings/{key}", {"value": 1})
    assert refused.status_code in (400, 404, 405)
    assert await admin.ask(200, "GET", "/settings") == []


@pytest.mark.parametrize("value", [True, None, 0, "text", [1, {"a": None}], {"deep": {"er": []}}])
async def test_a_setting_is_any_json_and_comes_back_as_it_went(admin: Caller, value: Any) -> None:
    for _ in range(2):
        put = await admin.ask(200, "PUT", "/settings/rules.discount", {"value": value, "description": "x"})
        assert put["value"] == value
    assert await admin.ask(200, "GET", "/settings/rules.discount") == put
    assert [item["value"] for item in await admin.ask(200, "GET", "/settings")] == [value]
    await admin.ask(404, "GET", "/settings/nobody.set.this")
    await admin.ask(400, "PUT", "/settings/rules.discount", {})
