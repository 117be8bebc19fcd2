"""Our wires beside the official clients: the same address, the same credential, the same answer read the same way."""

from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types as gemini
from tests.fakes.model_server import Call, Reply
from tests.fakes.provider_server import FakeProviders, Script
from tests.unit.agent_engine.conftest import HELLO, KEY, access_to, hear

from weir.agent_engine.models.base import ToolCall
from weir.agent_engine.models.client import WireClient

SAID = Reply(text=("Hel", "lo"), calls=(Call("look", {"a": 1}, "c1"), Call("find", {"b": [2]}, "c2")))


async def test_openai(providers: FakeProviders, client: WireClient) -> None:
    script = providers.script(SAID)
    theirs = openai.AsyncOpenAI(api_key=KEY, base_url=f"{script.base_url}/v1")
    stream = await theirs.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    await _ours_is_the_same(client, script, "openai_compatible", f"{script.base_url}/v1", text)
    assert script.last.headers["authorization"] == f"Bearer {KEY}"


async def test_azure(providers: FakeProviders, client: WireClient) -> None:
    script = providers.script(SAID)
    theirs = openai.AsyncAzureOpenAI(api_key=KEY, azure_endpoint=script.base_url, api_version="2024-10-21")
    stream = await theirs.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    await _ours_is_the_same(client, script, "azure_openai", script.base_url, text)
    assert script.last.path == "/openai/deployments/m/chat/completions"
    assert script.last.headers["api-key"] == KEY
    assert "authorization" not in script.last.headers


async def test_anthropic(providers: FakeProviders, client: WireClient) -> None:
    script = providers.script(SAID)
    theirs = anthropic.AsyncAnthropic(api_key=KEY, base_url=script.base_url)
    async with theirs.messages.stream(
        model="m", max_tokens=5, messages=[{"role": "user", "content": "hi"}]
    ) as stream:
        message = await stream.get_final_message()
    text = "".join(block.text for block in message.content if block.type == "text")
    uses = [block for block in message.content if block.type == "tool_use"]
    assert [(use.id, use.name, use.input) for use in uses] == [
        ("c1", "look", {"a": 1}),
        ("c2", "find", {"b": [2]}),
    ]
    await _ours_is_the_same(client, script, "anthropic", script.base_url, text)
    # The official client sends its key as a bearer, which servers of the older version do not know; both know this.
    assert script.last.headers["x-api-key"] == KEY
    assert script.last.headers["anthropic-version"] == "2023-06-01"


async def test_gemini(providers: FakeProviders, client: WireClient) -> None:
    script = providers.script(SAID)
    options = gemini.HttpOptions(base_url=script.base_url, api_version="v1beta")
    theirs = genai.Client(api_key=KEY, http_options=options)
    stream = await theirs.aio.models.generate_content_stream(model="m", contents="hi")
    text = "".join(
        [part.text or "" async for chunk in stream for part in chunk.candidates[0].content.parts or []]
    )
    await _ours_is_the_same(client, script, "google", script.base_url, text)
    assert script.last.headers["x-goog-api-key"] == KEY
    assert "key" not in script.last.query


async def _ours_is_the_same(client: WireClient, script: Script, type: str, base_url: str, text: str) -> None:
    heard = await hear(client, access_to(type, base_url), HELLO)
    assert heard.text == text == "Hello"
    assert heard.finish.calls == (
        ToolCall("c1", "look", _same(heard, 0, {"a": 1})),
        ToolCall("c2", "find", _same(heard, 1, {"b": [2]})),
    )
    assert heard.finish.reason == "tool_calls"
    theirs, ours = script.asked
    assert (ours.path, ours.query) == (theirs.path, theirs.query)


def _same(heard: Any, place: int, wanted: dict[str, Any]) -> str:
    """What the model wrote, if it says what it should: protocols differ in their blanks."""
    import json

    written = heard.finish.calls[place].arguments
    assert json.loads(written) == wanted
    return written


@pytest.mark.parametrize("type", ["openai_compatible", "anthropic", "google"])
async def test_the_fake_ends_a_plain_answer_as_the_providers_do(
    providers: FakeProviders, client: WireClient, type: str
) -> None:
    script = providers.script(Reply(text=("ok",)))
    heard = await hear(client, access_to(type, script.base_url))
    assert (heard.text, heard.finish.reason, heard.finish.calls) == ("ok", "stop", ())
