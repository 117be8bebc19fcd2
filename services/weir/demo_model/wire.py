"""The OpenAI-compatible wire, as far as the demo model speaks it."""

import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from weir.demo_model.plan import Said, Speak, UseTool

MODEL = "demo-scripted"
NOTICE = "answers of this model are scripted; it is not a language model"

_MARKS = re.compile(r"((?:\[ERROR\] )?)<tool_output>\n(.*)\n</tool_output>", re.DOTALL)


class AskedFunction(Struct, frozen=True):
    name: str = ""


class AskedCall(Struct, frozen=True):
    id: str = ""
    function: AskedFunction = AskedFunction()


class AskedMessage(Struct, frozen=True):
    role: str
    content: Any = None
    tool_calls: list[AskedCall] | None = None
    tool_call_id: str | None = None


class AskedTool(Struct, frozen=True):
    function: AskedFunction = AskedFunction()


class StreamOptions(Struct, frozen=True):
    include_usage: bool = False


class Asked(Struct, frozen=True):
    """A request for a completion."""

    messages: list[AskedMessage]
    tools: list[AskedTool] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None


def conversation(asked: Asked) -> list[Said]:
    """The messages, each result with the tool that it is of."""
    names: dict[str, str] = {}
    found: list[Said] = []
    for message in asked.messages:
        names |= {call.id: call.function.name for call in message.tool_calls or ()}
        calls = tuple(call.function.name for call in message.tool_calls or ())
        if message.role == "tool":
            calls = (names.get(message.tool_call_id or "", ""),)
        text = _text(message.content)
        found.append(Said(message.role, _unmarked(text) if message.role == "tool" else text, calls))
    return found


def whole(asked: Asked, move: Speak | UseTool) -> dict[str, Any]:
    """A completion in one piece."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    if isinstance(move, Speak):
        message["content"] = move.text
    else:
        message["tool_calls"] = [_call(move)]
    choice = {"index": 0, "message": message, "finish_reason": _reason(move)}
    return _envelope("chat.completion") | {"choices": [choice], "usage": _usage(asked, move)}


def streamed(asked: Asked, move: Speak | UseTool) -> Iterator[bytes]:
    """A completion as events, word by word."""
    envelope = _envelope("chat.completion.chunk")

    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _event(envelope | {"choices": [choice]})

    yield chunk({"role": "assistant", "content": ""})
    if isinstance(move, Speak):
        for word in _words(move.text):
            yield chunk({"content": word})
    else:
        yield chunk({"tool_calls": [{"index": 0} | _call(move)]})
    yield chunk({}, _reason(move))
    if asked.stream_options and asked.stream_options.include_usage:
        yield _event(envelope | {"choices": [], "usage": _usage(asked, move)})
    yield b"data: [DONE]\n\n"


def model_list() -> dict[str, Any]:
    return {
        "object": "list",
        "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "weir", "notice": NOTICE}],
    }


def error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": None, "param": None}}


def _text(content: Any) -> str:
    """Content is a text, or a list of parts of which some are texts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _unmarked(result: str) -> str:
    """A result without the engine's marks of what is data; a failure's sign stands before them."""
    marks = _MARKS.fullmatch(result)
    return "".join(marks.groups()) if marks else result


def _call(move: UseTool) -> dict[str, Any]:
    arguments = msgspec.json.encode(move.arguments).decode()
    function = {"name": move.tool, "arguments": arguments}
    return {"id": f"call_{uuid.uuid4().hex}", "type": "function", "function": function}


def _reason(move: Speak | UseTool) -> str:
    return "stop" if isinstance(move, Speak) else "tool_calls"


def _words(text: str) -> list[str]:
    """The text in pieces that join to it."""
    return [piece + " " for piece in text.split(" ")[:-1]] + [text.rpartition(" ")[2]]


def _usage(asked: Asked, move: Speak | UseTool) -> dict[str, int]:
    """Words stand for tokens: there is no tokenizer here."""
    heard = sum(len(_text(message.content).split()) for message in asked.messages)
    said = len(move.text.split()) if isinstance(move, Speak) else len(str(move.arguments).split())
    return {"prompt_tokens": heard, "completion_tokens": said, "total_tokens": heard + said}


def _envelope(kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": MODEL,
        "system_fingerprint": NOTICE,
    }


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"
