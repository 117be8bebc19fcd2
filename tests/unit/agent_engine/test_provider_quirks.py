"""Where each provider is asked, and what each of them wants differently."""

import json
from typing import Any

import pytest
from msgspec.structs import replace
from tests.fakes.model_server import Call, Reply
from tests.fakes.provider_server import FakeProviders
from tests.unit.agent_engine.conftest import KEY, access_to, hear

from weir.agent_engine.models.base import (
    AssistantMessage,
    Prompt,
    Sampling,
    TextPart,
    ThinkingPart,
    ToolCall,
    ToolDefinition,
    ToolMessage,
    UserMessage,
)
from weir.agent_engine.models.client import WireClient
from weir.agent_engine.models.openai_answer import AnswerInPieces
from weir.agent_engine.models.openai_request import request_body
from weir.agent_engine.models.providers import (
    PROVIDERS,
    anthropic_url,
    azure_url,
    gemini_url,
    openai_url,
    provider_type,
)
from weir.agent_engine.models.wire_names import safe_name

ROUND_TRIP = Prompt(
    system="",
    messages=[
        UserMessage("hi"),
        AssistantMessage("", (ToolCall("call_abcdefghijklmnop", "look", "{}"),)),
        ToolMessage("call_abcdefghijklmnop", "seen"),
    ],
)


@pytest.mark.parametrize(
    ("type", "base", "url"),
    [
        ("ollama", "http://h:11434", "http://h:11434/v1/chat/completions"),
        ("ollama", "http://h:11434/", "http://h:11434/v1/chat/completions"),
        ("ollama", "http://h:11434/api", "http://h:11434/v1/chat/completions"),
        ("ollama", "http://h:11434/v1", "http://h:11434/v1/chat/completions"),
        ("ollama", None, "http://localhost:11434/v1/chat/completions"),
        ("openai_compatible", None, "https://api.openai.com/v1/chat/completions"),
        ("openai_compatible", "http://h/v1/?tenant=7#x", "http://h/v1/chat/completions?tenant=7"),
        ("openrouter", None, "https://openrouter.ai/api/v1/chat/completions"),
        ("deepseek", None, "https://api.deepseek.com/v1/chat/completions"),
        ("mistral", None, "https://api.mistral.ai/v1/chat/completions"),
        ("xai", None, "https://api.x.ai/v1/chat/completions"),
        ("zai", None, "https://api.z.ai/api/paas/v4/chat/completions"),
    ],
)
def test_chat_completions_are_asked_at(type: str, base: str | None, url: str) -> None:
    assert openai_url(type, base) == url


@pytest.mark.parametrize(
    ("base", "model", "version", "url"),
    [
        ("https://h", "m", None, "https://h/openai/deployments/m/chat/completions?api-version=2024-10-21"),
        (
            "https://h/",
            "a b/c",
            "v1",
            "https://h/openai/deployments/a%20b%2Fc/chat/completions?api-version=v1",
        ),
        ("https://h/openai", "m", "v", "https://h/openai/deployments/m/chat/completions?api-version=v"),
        (
            "https://h/openai/deployments/d",
            "m",
            "v",
            "https://h/openai/deployments/d/chat/completions?api-version=v",
        ),
        ("https://h/openai/v1", "m", None, "https://h/openai/v1/chat/completions"),
    ],
)
def test_azure_deployments_are_asked_at(base: str, model: str, version: str | None, url: str) -> None:
    assert azure_url(base, model, version) == url


@pytest.mark.parametrize(
    ("base", "url"),
    [
        (None, "https://api.anthropic.com/v1/messages"),
        ("https://h", "https://h/v1/messages"),
        ("https://h/v1/", "https://h/v1/messages"),
        ("https://h/api/anthropic", "https://h/api/anthropic/v1/messages"),
    ],
)
def test_anthropic_is_asked_at(base: str | None, url: str) -> None:
    assert anthropic_url(base) == url


@pytest.mark.parametrize(
    ("base", "model", "url"),
    [
        (None, "g", "https://generativelanguage.googleapis.com/v1beta/models/g:verb?alt=sse"),
        ("https://h", "models/g", "https://h/v1beta/models/g:verb?alt=sse"),
        ("https://h/v1", "tunedModels/g", "https://h/v1/tunedModels/g:verb?alt=sse"),
        ("https://h/v1", "../../admin?x", "https://h/v1/models/admin%3Fx:verb?alt=sse"),
    ],
)
def test_gemini_is_asked_at(base: str | None, model: str, url: str) -> None:
    assert gemini_url(base, model, "verb", "alt=sse") == url


@pytest.mark.parametrize(
    ("text", "type"),
    [("openai", "openai_compatible"), ("OpenAI-Compatible", "openai_compatible"), ("abacus", None)],
)
def test_spellings_of_types(text: str, type: str | None) -> None:
    assert provider_type(text) == type


def body_for(type: str, prompt: Prompt = ROUND_TRIP, **fields: Any) -> dict[str, Any]:
    base = fields.pop("base_url", PROVIDERS[type].base_url or "https://x.openai.azure.com")
    return request_body(access_to(type, base, **fields), prompt)


def test_mistral_gets_ids_of_nine_signs_and_no_option_that_it_refuses() -> None:
    body = body_for("mistral")
    assert "stream_options" not in body
    _, said, result = body["messages"]
    [call] = said["tool_calls"]
    assert len(call["id"]) == 9
    assert call["id"].isalnum()
    assert result["tool_call_id"] == call["id"]
    kept = replace(ROUND_TRIP, messages=[AssistantMessage("", (ToolCall("abcDEF123", "look", "{}"),))])
    assert body_for("mistral", kept)["messages"][0]["tool_calls"][0]["id"] == "abcDEF123"


@pytest.mark.parametrize("type", sorted(set(PROVIDERS) - {"mistral", "anthropic", "google"}))
def test_every_other_provider_is_asked_for_its_counts(type: str) -> None:
    body = body_for(type)
    assert body["stream_options"] == {"include_usage": True}
    assert body["messages"][1]["tool_calls"][0]["id"] == "call_abcdefghijklmnop"


@pytest.mark.parametrize(
    ("type", "model", "reasons"),
    [
        ("openai_compatible", "gpt-5.2", True),
        ("openai_compatible", "o3-mini", True),
        ("azure_openai", "gpt-5", True),
        ("openai_compatible", "gpt-4o", False),
        ("openai_compatible", "gpt-oss-120b", False),
        ("openrouter", "gpt-5.2", False),
    ],
)
def test_openais_reasoning_models_get_their_own_limit_and_no_temperature(
    type: str, model: str, reasons: bool
) -> None:
    prompt = replace(ROUND_TRIP, sampling=Sampling(temperature=0.5, top_p=0.5, max_tokens=9, stop=("x",)))
    body = body_for(type, prompt, model_name=model)
    given = body.keys() & {"temperature", "top_p", "max_tokens", "stop", "max_completion_tokens"}
    assert given == ({"max_completion_tokens"} if reasons else {"temperature", "top_p", "max_tokens", "stop"})


def test_a_server_of_ones_own_with_such_a_name_is_asked_as_usual() -> None:
    prompt = replace(ROUND_TRIP, sampling=Sampling(max_tokens=9))
    body = body_for("openai_compatible", prompt, model_name="gpt-5", base_url="http://127.0.0.1:8000/v1")
    assert body["max_tokens"] == 9


async def test_a_key_is_sent_only_if_there_is_one(providers: FakeProviders, client: WireClient) -> None:
    script = providers.script(Reply(text=("ok",)))
    for type in PROVIDERS:
        await hear(client, access_to(type, script.base_url, api_key=None))
        assert KEY not in str(script.last.headers)
        sent = script.last.headers.keys() & {"authorization", "api-key", "x-api-key", "x-goog-api-key"}
        assert sent == ({"authorization"} if type == "ollama" else set())
        await hear(client, access_to(type, script.base_url))
        assert KEY in str(script.last.headers)
        assert KEY not in script.last.path + script.last.query


async def test_names_that_strict_providers_refuse_are_written_differently_and_read_back(
    providers: FakeProviders, client: WireClient
) -> None:
    odd = "files.read/übung " + "x" * 80
    tool = ToolDefinition(name=odd, description="", parameters={})
    plain = ToolDefinition(name="look", description="", parameters={})
    prompt = Prompt(
        system="",
        messages=[
            UserMessage("hi"),
            AssistantMessage("", (ToolCall("c", odd, "{}"),)),
            ToolMessage("c", "x"),
        ],
        tools=[tool, plain],
    )
    safe = safe_name(odd)
    assert len(safe) <= 64
    assert safe != safe_name(odd + "y")
    for type in ("openai_compatible", "anthropic", "google"):
        script = providers.script(Reply(calls=(Call(safe, {}), Call("look", {}))))
        heard = await hear(client, access_to(type, script.base_url), prompt)
        assert [call.name for call in heard.finish.calls] == [odd, "look"]
        sent = json.dumps(script.last.body, ensure_ascii=False)
        assert odd not in sent
        assert sent.count(safe) >= 2


def read(*chunks: dict[str, Any], echo: Any = None) -> Any:
    answer = AnswerInPieces(echo=echo)
    events = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    return [*answer.read(events), *answer.end()]


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def end(reason: str = "stop", **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], **fields}


CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("type", "echoed"), [("deepseek", True), ("zai", True), ("xai", False), ("ollama", False)]
)
def test_reasoning_goes_back_with_the_results_where_it_is_wanted(type: str, echoed: bool) -> None:
    provider = PROVIDERS[type]
    *_, finish = read(
        delta(reasoning_content="so "), delta(reasoning_content="it is"), delta(tool_calls=[CALL]), end(),
        echo=provider.echo,
    )  # fmt: skip
    assert finish.echo == ({"reasoning_content": "so it is"} if echoed else {})
    prompt = replace(ROUND_TRIP, messages=[AssistantMessage("", finish.calls, finish.echo)])
    assert ("reasoning_content" in body_for(type, prompt)["messages"][0]) is echoed


def test_openrouters_reasoning_goes_back_as_it_came_joined() -> None:
    def detail(text: str, **fields: Any) -> dict[str, Any]:
        return {"type": "reasoning.text", "index": 0, "text": text, **fields}

    sealed = {"type": "reasoning.encrypted", "index": 1, "data": "xyz"}
    *said, finish = read(
        delta(reasoning="so", reasoning_details=[detail("so")]),
        delta(reasoning=" so", reasoning_details=[detail(" so", signature="s")]),
        delta(reasoning_details=[sealed]),
        delta(tool_calls=[CALL]),
        end("tool_calls"),
        echo=PROVIDERS["openrouter"].echo,
    )
    assert said == [ThinkingPart("so"), ThinkingPart(" so")]
    assert finish.echo == {"reasoning_details": [detail("so so", signature="s"), sealed]}


def test_mistrals_typed_pieces_are_text_and_thoughts() -> None:
    thinking = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "so"},
    ]
    assert read(delta(content=thinking), end())[:2] == [ThinkingPart("hm"), TextPart("so")]


def test_a_refusal_is_said() -> None:
    assert read(delta(refusal="I won't."), end())[0] == TextPart("I won't.")


def test_counts_of_cached_and_reasoning_tokens_are_told() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    finish = read(delta(content="x"), end(usage=usage))[-1]
    assert (finish.cached_tokens, finish.reasoning_tokens) == (4, 3)
    finish = read(delta(content="x"), end(usage={"prompt_cache_hit_tokens": 7, "prompt_tokens": 9}))[-1]
    assert (finish.input_tokens, finish.cached_tokens) == (9, 7)


def test_calls_that_share_an_index_are_still_two() -> None:
    other = CALL | {"id": "d", "function": {"name": "find", "arguments": '{"a":'}}
    rest = {"index": 0, "function": {"arguments": "1}"}}
    finish = read(delta(tool_calls=[CALL]), delta(tool_calls=[other]), delta(tool_calls=[rest]), end())[-1]
    assert finish.calls == (ToolCall("c", "look", "{}"), ToolCall("d", "find", '{"a":1}'))


def test_calls_that_share_an_id_get_one_each() -> None:
    other = CALL | {"index": 1}
    finish = read(delta(tool_calls=[CALL, other]), end())[-1]
    assert len({call.call_id for call in finish.calls}) == 2


def test_arguments_that_come_as_an_object_are_read() -> None:
    call = CALL | {"function": {"name": "look", "arguments": {"a": 1}}}
    assert read(delta(tool_calls=[call]), end())[-1].calls[0].arguments == '{"a":1}'
