"""A prompt as a request of Anthropic's Messages protocol."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

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
from weir.agent_engine.models.catalogue import longest_answer
from weir.agent_engine.models.wire_names import parameters_of, safe_id, safe_name

# The version that takes an agent's temperature; the next one refuses every request that names any.
VERSION, VERSION_WITHOUT_SAMPLING = "2023-06-01", "2026-10-21"
# The protocol demands a limit; these are what its oldest models and all the others can write at least.
FIRST_MODELS_TOKENS, DEFAULT_TOKENS = 4096, 8192
_FIRST_MODELS = re.compile(r"claude-(2|instant|3-(opus|sonnet|haiku))")
# A conversation begins with its user, also when its beginning did not fit.
OPENING = "(The beginning of the conversation is left out.)"


def request_body(access: ModelAccess, prompt: Prompt) -> dict[str, Any]:
    """The request as the protocol writes it; what an agent leaves open is left out."""
    wanted = {
        "system": _system(prompt.system),
        "tools": [_tool(tool) for tool in prompt.tools] or None,
        **_sampling(access, prompt),
    }
    return {
        "model": access.model_name,
        "max_tokens": prompt.sampling.max_tokens or _most_tokens(access.model_name),
        "messages": _messages(prompt.messages),
        "stream": True,
    } | {key: value for key, value in wanted.items() if value is not None}


def _most_tokens(model_name: str) -> int:
    default = FIRST_MODELS_TOKENS if _FIRST_MODELS.match(model_name) else DEFAULT_TOKENS
    return longest_answer(model_name) or default


def _sampling(access: ModelAccess, prompt: Prompt) -> dict[str, Any]:
    """Newer models take a temperature or `top_p`, not both; the scale of the temperature ends at 1."""
    wanted = prompt.sampling
    if (access.api_version or VERSION) >= VERSION_WITHOUT_SAMPLING:
        wanted = replace(wanted, temperature=None, top_p=None)
    warm = wanted.temperature is not None
    return {
        "temperature": min(wanted.temperature or 0.0, 1.0) if warm else None,
        "top_p": None if warm else wanted.top_p,
        # A stop of nothing but white space is refused.
        "stop_sequences": [stop for stop in wanted.stop if stop.strip()] or None,
    }


def _system(text: str) -> list[dict[str, Any]] | None:
    """Marked, so that the provider keeps the tools and the prompt in its cache from step to step."""
    if not text.strip():
        return None
    return [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]


def _tool(tool: ToolDefinition) -> dict[str, Any]:
    return {
        "name": safe_name(tool.name),
        "description": tool.description,
        "input_schema": parameters_of(tool),
    }


def _messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The conversation in turns of user and assistant: the results of a step stand together, before what is said next."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        role, blocks = _blocks(message)
        if not blocks:
            continue
        if not turns and role == "assistant":
            turns.append({"role": "user", "content": [{"type": "text", "text": OPENING}]})
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: Message) -> tuple[str, list[dict[str, Any]]]:
    match message:
        case UserMessage():
            return "user", _text(message.content)
        case ToolMessage():
            result: dict[str, Any] = {"type": "tool_result", "tool_use_id": safe_id(message.call_id)}
            if message.content.startswith("[ERROR]"):
                result["is_error"] = True
            return "user", [result | {"content": message.content}]
        case AssistantMessage():
            # Thoughts first: the protocol wants them back as they came, and before the calls they led to.
            thoughts = message.echo.get("thinking", [])
            return "assistant", [*thoughts, *_text(message.content), *map(_call, message.calls)]


def _text(text: str) -> list[dict[str, Any]]:
    """Blocks of nothing but white space are refused."""
    return [{"type": "text", "text": text}] if text.strip() else []


def _call(call: ToolCall) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": safe_id(call.call_id),
        "name": safe_name(call.name),
        "input": arguments_of(call),
    }


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The arguments that a model wrote, as an object; the result of a call says what was wrong with others."""
    try:
        return msgspec.json.decode(call.arguments, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        return {}
