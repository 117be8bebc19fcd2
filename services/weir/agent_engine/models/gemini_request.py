"""A prompt as a request of the Gemini protocol."""

from collections.abc import Mapping, Sequence
from typing import Any

from weir.agent_engine.models.anthropic_request import OPENING, arguments_of
from weir.agent_engine.models.base import (
    AssistantMessage,
    Message,
    Prompt,
    ToolCall,
    ToolDefinition,
    ToolMessage,
    UserMessage,
)
from weir.agent_engine.models.wire_names import parameters_of, safe_id, safe_name

MOST_STOPS = 5


def request_body(prompt: Prompt) -> dict[str, Any]:
    """The request as the protocol writes it; what an agent leaves open is left out."""
    wanted = {
        "systemInstruction": {"parts": [{"text": prompt.system}]} if prompt.system.strip() else None,
        "tools": [{"functionDeclarations": [_tool(tool) for tool in prompt.tools]}] if prompt.tools else None,
        "generationConfig": _sampling(prompt) or None,
    }
    return {"contents": _contents(prompt.messages)} | {
        key: value for key, value in wanted.items() if value is not None
    }


def _sampling(prompt: Prompt) -> dict[str, Any]:
    wanted = prompt.sampling
    named = {
        "temperature": wanted.temperature,
        "topP": wanted.top_p,
        "maxOutputTokens": wanted.max_tokens,
        "stopSequences": [stop for stop in wanted.stop if stop][:MOST_STOPS] or None,
    }
    return {key: value for key, value in named.items() if value is not None}


def _tool(tool: ToolDefinition) -> dict[str, Any]:
    # The older field for parameters knows a part of JSON schema only, and refuses the rest.
    return {
        "name": safe_name(tool.name),
        "description": tool.description,
        "parametersJsonSchema": parameters_of(tool),
    }


def _contents(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The conversation; the results of a step are one content, as many as its calls."""
    contents: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    results: list[dict[str, Any]] | None = None
    for message in messages:
        if isinstance(message, ToolMessage):
            if results is None:
                results = []
                contents.append({"role": "user", "parts": results})
            results.append(_result(message, names))
            continue
        results = None
        role, parts = _parts(message)
        if isinstance(message, AssistantMessage):
            names |= {call.call_id: call.name for call in message.calls}
        if not parts:
            continue
        if not contents and role == "model":
            contents.append({"role": "user", "parts": [{"text": OPENING}]})
        contents.append({"role": role, "parts": parts})
    return contents


def _parts(message: UserMessage | AssistantMessage) -> tuple[str, list[dict[str, Any]]]:
    text: list[dict[str, Any]] = [{"text": message.content}] if message.content.strip() else []
    if isinstance(message, UserMessage):
        return "user", text
    signatures: Mapping[str, str] = message.echo.get("signatures", {})
    return "model", [*text, *(_call(call, signatures) for call in message.calls)]


def _call(call: ToolCall, signatures: Mapping[str, str]) -> dict[str, Any]:
    part: dict[str, Any] = {
        "functionCall": {
            "id": safe_id(call.call_id),
            "name": safe_name(call.name),
            "args": arguments_of(call),
        }
    }
    # Models that think refuse the result of a call whose signature is gone.
    if signature := signatures.get(call.call_id):
        part["thoughtSignature"] = signature
    return part


def _result(message: ToolMessage, names: Mapping[str, str]) -> dict[str, Any]:
    kind = "error" if message.content.startswith("[ERROR]") else "output"
    response = {
        "id": safe_id(message.call_id),
        "name": safe_name(names.get(message.call_id, "unknown")),
        "response": {kind: message.content},
    }
    return {"functionResponse": response}
