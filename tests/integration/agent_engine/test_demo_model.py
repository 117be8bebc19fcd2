"""The demo model behind the studio: its wire as the official SDK reads it, and a whole turn over the lake."""

import json
from collections.abc import AsyncIterator

import pytest
from openai import AsyncOpenAI
from tests.integration.agent_engine.conftest import Caller, World, serving

from weir.demo_model.app import create_app
from weir.demo_model.plan import LABEL


@pytest.fixture(scope="module")
async def demo_url() -> AsyncIterator[str]:
    async with serving(create_app()) as url:
        yield f"{url}/v1"


async def test_the_official_client_reads_its_answers(demo_url: str) -> None:
    async with AsyncOpenAI(base_url=demo_url, api_key="none") as client:
        assert [model.id async for model in client.models.list()] == ["demo-scripted"]
        asked = {"model": "demo-scripted", "messages": [{"role": "user", "content": "hello"}]}
        whole = await client.chat.completions.create(**asked)
        text = whole.choices[0].message.content
        assert text is not None
        assert text.startswith(LABEL)
        streamed = await client.chat.completions.create(
            **asked, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in streamed]
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
        assert chunks[-1].usage is not None
        tool = {"type": "function", "function": {"name": "calculator", "parameters": {"type": "object"}}}
        asked["messages"] = [{"role": "user", "content": "Use the calculator"}]
        called = await client.chat.completions.create(**asked, tools=[tool])
        [call] = called.choices[0].message.tool_calls or []
        assert json.loads(call.function.arguments) == {"expression": "1+1"}


async def test_the_studio_chats_with_it_and_verifies_it(world: World, admin: Caller, demo_url: str) -> None:
    assistant = await world.assistant(admin)
    body = {"base_url": demo_url, "model_name": "demo-scripted"}
    await admin.ask(200, "PUT", f"/models/{assistant.model}", body)
    report = await admin.ask(200, "POST", f"/models/{assistant.model}/verify")
    assert (report["connectivity"], report["tool_calling"]) == ("ok", "supported")
    turn = await admin.chat(assistant.schema, "hello")
    assert "not a language model" in turn.one("message")["content"]


async def test_a_bad_request_is_answered_in_the_wires_own_words(
    world: World, demo_url: str, admin: Caller
) -> None:
    response = await admin.http.post(f"{demo_url}/chat/completions", content=b"{}")
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
