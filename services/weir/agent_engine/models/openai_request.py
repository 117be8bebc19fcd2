"""A prompt as a request of the chat-completions protocol, for each of the providers that speak it."""

import re
from typing import Any
from urllib.parse import urlsplit

import msgspec

from weir.agent_engine.models.base import (
    AssistantMessage,
    Message,
    ModelAccess,
    Prompt,
    ToolCall,
    ToolDefinition,
    ToolMessage,
    UserMessage,
)
from weir.agent_engine.models.providers import PROVIDERS, Provider
from weir.agent_engine.models.wire_names import parameters_of, safe_id, safe_name

# OpenAI's models that reason take neither `max_tokens` nor a temperature.
_REASONING = re.compile(r"(o\d|gpt-5)(?![a-z0-9])")
_OPENAI_HOSTS = (
    "api.openai.com",
    ".openai.azure.com",
    ".cognitiveservices.azure.com",
    ".services.ai.azure.com",
)


def request_body(access: ModelAccess, prompt: Prompt) -> dict[str, Any]:
    """The request as the protocol writes it; what an agent leaves open is left out."""
    provider = PROVIDERS[access.type]
    opening = [{"role": "system", "content": prompt.system}] if prompt.system else []
    wanted = {
        **_sampling(access, prompt),
        "tools": [_tool(tool) for tool in prompt.tools] or None,
        "stream_options": None if provider.tells_usage else {"include_usage": True},
    }
    return {
        "model": access.model_name,
        "messages": [*opening, *(_message(message, provider) for message in prompt.messages)],
        "stream": True,
    } | {key: value for key, value in wanted.items() if value is not None}


def _sampling(access: ModelAccess, prompt: Prompt) -> dict[str, Any]:
    wanted = prompt.sampling
    if _reasons(access):
        return {"max_completion_tokens": wanted.max_tokens}
    return {
        "temperature": wanted.temperature,
        "top_p": wanted.top_p,
        "max_tokens": wanted.max_tokens,
        "stop": list(wanted.stop) or None,
    }


def _reasons(access: ModelAccess) -> bool:
    """Whether it is one of OpenAI's reasoning models, where OpenAI or Azure serve them."""
    if access.type not in ("openai_compatible", "azure_openai"):
        return False
    host = urlsplit(access.base_url).hostname or ""
    return host.endswith(_OPENAI_HOSTS) and _REASONING.match(access.model_name) is not None


def _message(message: Message, provider: Provider) -> dict[str, Any]:
    match message:
        case UserMessage():
            return {"role": "user", "content": message.content}
        case ToolMessage():
            call_id = safe_id(message.call_id, provider.call_id_size)
            return {"role": "tool", "tool_call_id": call_id, "content": message.content}
        case AssistantMessage(calls=()):
            return {"role": "assistant", "content": message.content}
        case AssistantMessage():
            calls = [_call(call, provider) for call in message.calls]
            said = {"role": "assistant", "content": message.content or None, "tool_calls": calls}
            return said | message.echo


def _call(call: ToolCall, provider: Provider) -> dict[str, Any]:
    # Providers refuse a conversation with arguments that are no JSON; the result says what was wrong with them.
    written = call.arguments if _is_object(call.arguments) else "{}"
    return {
        "id": safe_id(call.call_id, provider.call_id_size),
        "type": "function",
        "function": {"name": safe_name(call.name), "arguments": written},
    }


def _is_object(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        return False
    return True


def _tool(tool: ToolDefinition) -> dict[str, Any]:
    function = {
        "name": safe_name(tool.name),
        "description": tool.description,
        "parameters": parameters_of(tool),
    }
    return {"type": "function", "function": function}
