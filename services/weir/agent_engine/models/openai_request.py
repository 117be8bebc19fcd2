"""A prompt as a request of the chat-completions protocol."""

from typing import Any

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


def request_body(access: ModelAccess, prompt: Prompt) -> dict[str, Any]:
    """The request as the protocol writes it; what an agent leaves open is left out."""
    sampling = prompt.sampling
    wanted = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop) or None,
        "tools": [_tool(tool) for tool in prompt.tools] or None,
    }
    opening = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return {
        "model": access.model_name,
        "messages": [*opening, *(_message(message) for message in prompt.messages)],
        "stream": True,
        "stream_options": {"include_usage": True},
    } | {key: value for key, value in wanted.items() if value is not None}


def _message(message: Message) -> dict[str, Any]:
    match message:
        case UserMessage():
            return {"role": "user", "content": message.content}
        case ToolMessage():
            return {"role": "tool", "tool_call_id": message.call_id, "content": message.content}
        case AssistantMessage(calls=()):
            return {"role": "assistant", "content": message.content}
        case AssistantMessage():
            calls = [_call(call) for call in message.calls]
            return {"role": "assistant", "content": message.content or None, "tool_calls": calls}


def _call(call: ToolCall) -> dict[str, Any]:
    # Providers refuse a conversation with arguments that are no JSON; the result says what was wrong with them.
    function = {"name": call.name, "arguments": call.arguments if _is_object(call.arguments) else "{}"}
    return {"id": call.call_id, "type": "function", "function": function}


def _is_object(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _tool(tool: ToolDefinition) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}
