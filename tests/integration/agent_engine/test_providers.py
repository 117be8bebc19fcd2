"""A chat through each protocol with a tool in between, and the verdict on a model of each type."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.fakes.model_server import Reply, say, use
from tests.fakes.provider_server import FakeProviders, Script, serve_fake_providers
from tests.integration.agent_engine.conftest import Caller

from weir.agent_engine.models.providers import PROVIDERS

KEY = "key-of-the-tenant-123"


@pytest.fixture(scope="module")
async def providers() -> AsyncIterator[FakeProviders]:
    async with serve_fake_providers() as fake:
        yield fake


async def assistant(admin: Caller, script: Script, type: str, **agent: Any) -> str:
    name = f"p-{uuid.uuid4().hex[:10]}"
    model = {"name": name, "type": type, "model_name": "m", "base_url": script.base_url, "api_key": KEY}
    await admin.ask(201, "POST", "/models", model)
    await admin.ask(201, "POST", "/agents", {"name": name, "model": name, "system": "Help."} | agent)
    await admin.ask(201, "POST", "/schemas", {"name": name, "entry_agent_id": name, "chat_enabled": True})
    return name


@pytest.mark.parametrize("type", PROVIDERS)
async def test_a_chat_calls_tools_and_goes_on_with_their_results(
    providers: FakeProviders, admin: Caller, type: str
) -> None:
    asks = Reply(thinking=("hm",), text=("Let me see. ",), calls=use("nothing", {"a": 1}).calls * 2)
    script = providers.script(asks, say("All ", "done."), say("Again."))
    name = await assistant(admin, script, type, tool_execution="parallel", tools=["lake_query"])
    turn = await admin.chat(name)
    assert turn.one("message")["content"] == "Let me see. All done."
    assert turn.one("thinking")["content"] == "hm"
    calls = [frame.data["call_id"] for frame in turn.of("tool_call")]
    assert len(set(calls)) == 2
    assert sorted(calls) == sorted(frame.data["call_id"] for frame in turn.of("tool_result"))
    assert turn.one("done")["total_tokens"] > 0
    told = str(script.last.body)
    assert told.count("There is no tool 'nothing'") == 2
    # What the provider wants to see again goes back within the turn, and not after it.
    again = await admin.chat(name, "again", turn.session_id)
    assert again.text == "Again."
    assert "There is no tool" in str(script.last.body)
    assert "signed" not in str(script.last.body)


@pytest.mark.parametrize(
    ("type", "sign"), [("anthropic", "signed"), ("google", "c2lnbmVk"), ("deepseek", "hm")]
)
async def test_what_a_provider_wants_to_see_again_goes_back_with_the_results(
    providers: FakeProviders, admin: Caller, type: str, sign: str
) -> None:
    asks = Reply(thinking=("hm",), calls=use("nothing", {}).calls)
    script = providers.script(asks, say("Done."))
    assert (await admin.chat(await assistant(admin, script, type))).text == "Done."
    assert sign not in str(script.asked[0].body)
    assert sign in str(script.asked[1].body)


@pytest.mark.parametrize("type", PROVIDERS)
async def test_a_model_of_each_type_is_verified(providers: FakeProviders, admin: Caller, type: str) -> None:
    script = providers.script(say("hi"), use("calculator", {"expression": "1+1"}))
    name = await assistant(admin, script, type)
    report = await admin.ask(200, "POST", f"/models/{name}/verify")
    expected = "skipped" if PROVIDERS[type].knows_tools else "supported"
    assert (report["connectivity"], report["tool_calling"]) == ("ok", expected)
    assert (report["provider"], report["error"]) == (type, None)
    assert report["response_time_ms"] >= 0


@pytest.mark.parametrize("type", PROVIDERS)
async def test_a_model_that_refuses_is_verified_as_an_error(
    providers: FakeProviders, admin: Caller, type: str
) -> None:
    script = providers.script(Reply(status=401, raw=b'{"error":{"message":"bad %s"}}' % KEY.encode()))
    name = await assistant(admin, script, type)
    report = await admin.ask(200, "POST", f"/models/{name}/verify")
    assert (report["connectivity"], report["tool_calling"]) == ("error", "skipped")
    assert report["error"]
    assert KEY not in str(report)


async def test_an_azure_model_without_its_address_says_so(admin: Caller) -> None:
    body = {"name": "nowhere", "type": "azure_openai", "model_name": "m", "api_key": KEY}
    response = await admin.call("POST", "/models", body)
    # Refused when it is made, or when it is verified: never an internal error.
    if response.status_code == 201:
        report = await admin.ask(200, "POST", "/models/nowhere/verify")
        assert "address" in report["error"]
    else:
        assert response.status_code == 400
