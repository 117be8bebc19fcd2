"""A fake model: a server of the OpenAI-compatible wire that says what a test has scripted, or fails as scripted."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web
from msgspec import Struct

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


class Call(Struct, frozen=True):
    """A tool call; `written` replaces the JSON of the arguments when it should be something else."""

    name: str
    arguments: dict[str, Any] = {}
    id: str = ""
    written: str | None = None


class Reply(Struct, frozen=True, kw_only=True):
    """One answer: what it says, how fast, and how it goes wrong."""

    text: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    thinking: tuple[str, ...] = ()
    reasoning_key: str = "reasoning_content"
    status: int = 200
    headers: dict[str, str] = {}
    delay: float = 0.0
    pause: float = 0.0
    """Seconds between chunks."""
    hangs: bool = False
    """Sends its text and then nothing more, for ever."""
    drops: bool = False
    """Cuts the connection after its text."""
    raw: bytes | None = None
    """Sent instead of everything else."""
    finish: str | None = None


def say(*text: str, **options: Any) -> Reply:
    return Reply(text=text, **options)


def use(tool: str, arguments: dict[str, Any] | None = None, *, after: tuple[str, ...] = ()) -> Reply:
    return Reply(text=after, calls=(Call(tool, arguments or {}),))


class Brain:
    """The script of one model; its last reply is repeated."""

    def __init__(self, name: str, replies: tuple[Reply, ...]) -> None:
        self.name = name
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.cut_off = asyncio.Event()
        self._replies = list(replies) or [say("ok")]

    def next(self, request: dict[str, Any], headers: dict[str, str]) -> Reply:
        self.requests.append(request)
        self.headers.append(headers)
        return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]


class FakeModels:
    """Every brain at one address; the `model` of a request chooses the brain."""

    def __init__(self, port: int) -> None:
        self.base_url = f"http://127.0.0.1:{port}/v1"
        self._brains: dict[str, Brain] = {}

    def brain(self, *replies: Reply) -> Brain:
        return self.add(Brain(f"fake-{len(self._brains)}", replies))

    def add(self, brain: Brain) -> Brain:
        """One that answers in its own way."""
        self._brains[brain.name] = brain
        return brain

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        brain = self._brains[body["model"]]
        reply = brain.next(body, {name.lower(): value for name, value in request.headers.items()})
        await asyncio.sleep(reply.delay)
        if reply.status != 200:
            return web.json_response(
                {"error": {"message": f"the fake refuses with {reply.status} for sk-secretsecretsecret"}},
                status=reply.status,
                headers=reply.headers,
            )
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            await self._send(request, response, reply, body)
        except (ConnectionError, asyncio.CancelledError):
            brain.cut_off.set()
            raise
        return response

    async def _send(
        self, request: web.Request, response: web.StreamResponse, reply: Reply, body: dict[str, Any]
    ) -> None:
        if reply.raw is not None:
            await response.write(reply.raw)
            return
        for chunk in chunks(reply, body):
            await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
            await asyncio.sleep(reply.pause)
            if chunk["choices"] and chunk["choices"][0]["finish_reason"] is None:
                continue
        if reply.drops:
            assert request.transport is not None
            request.transport.close()
            raise ConnectionResetError
        if reply.hangs:
            await asyncio.sleep(3600)
        await response.write(b"data: [DONE]\n\n")


def chunks(reply: Reply, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of an answer as providers send them."""
    made = [_chunk(body, {"role": "assistant", "content": ""})]
    made += [_chunk(body, {reply.reasoning_key: thought}) for thought in reply.thinking]
    made += [_chunk(body, {"content": text}) for text in reply.text]
    for index, call in enumerate(reply.calls):
        made += [_chunk(body, {"tool_calls": [piece]}) for piece in _pieces(call, index)]
    if reply.drops or reply.hangs:
        return made
    made.append(_chunk(body, {}, reply.finish or ("tool_calls" if reply.calls else "stop")))
    if (body.get("stream_options") or {}).get("include_usage"):
        made.append({**_chunk(body, {}), "choices": [], "usage": USAGE})
    return made


def _pieces(call: Call, index: int) -> list[dict[str, Any]]:
    """The name first, then the arguments in two halves."""
    written = json.dumps(call.arguments) if call.written is None else call.written
    middle = len(written) // 2
    call_id = call.id or f"call-{index}-{call.name}"
    opening = {
        "index": index,
        "id": call_id,
        "type": "function",
        "function": {"name": call.name, "arguments": ""},
    }
    halves = [
        {"index": index, "function": {"arguments": part}} for part in (written[:middle], written[middle:])
    ]
    return [opening, *halves]


def _chunk(body: dict[str, Any], delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


@asynccontextmanager
async def serve_fake_models() -> AsyncIterator[FakeModels]:
    app = web.Application()
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    fake: FakeModels | None = None

    async def complete(request: web.Request) -> web.StreamResponse:
        assert fake is not None
        return await fake.complete(request)

    app.router.add_post("/v1/chat/completions", complete)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake = FakeModels(runner.addresses[0][1])
    try:
        yield fake
    finally:
        with suppress(asyncio.TimeoutError):
            await runner.cleanup()
