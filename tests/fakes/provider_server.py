"""A fake of the hosted providers: three wire protocols at the edge of the world, saying what a test has scripted.

Its answers are made of the official SDKs' own types, so that they are what the providers send.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web
from anthropic import types as anthropic
from google.genai import types as gemini
from msgspec import Struct
from tests.fakes.model_server import Reply, chunks


class Asked(Struct, frozen=True):
    """A request as it arrived."""

    path: str
    query: str
    headers: dict[str, str]
    body: dict[str, Any]


class Script:
    """The replies of one address, in order; the last one is repeated."""

    def __init__(self, base_url: str, replies: tuple[Reply, ...]) -> None:
        self.base_url = base_url
        self.asked: list[Asked] = []
        self.cut_off = asyncio.Event()
        self._replies = list(replies)

    @property
    def last(self) -> Asked:
        return self.asked[-1]

    def next(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]


class FakeProviders:
    """Every script under an address of its own; the rest of the path says which protocol is spoken."""

    def __init__(self, port: int) -> None:
        self._root = f"http://127.0.0.1:{port}"
        self._scripts: dict[str, Script] = {}
        self._numbers = itertools.count()

    def script(self, *replies: Reply) -> Script:
        name = f"s{next(self._numbers)}"
        self._scripts[name] = Script(f"{self._root}/{name}", replies)
        return self._scripts[name]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        _, name, path = request.raw_path.split("?")[0].split("/", 2)
        headers = {key.lower(): value for key, value in request.headers.items()}
        asked = Asked("/" + path, request.query_string, headers, await request.json())
        script = self._scripts[name]
        reply = script.next(asked)
        try:
            await asyncio.sleep(reply.delay)
            return await _send(request, reply, asked)
        except (ConnectionError, asyncio.CancelledError):
            script.cut_off.set()
            raise


async def _send(request: web.Request, reply: Reply, asked: Asked) -> web.StreamResponse:
    if reply.status != 200:
        body = reply.raw if reply.raw is not None else b'{"error": {"message": "no"}}'
        return web.Response(body=body, status=reply.status, headers=reply.headers)
    response = web.StreamResponse(headers={"content-type": "text/event-stream"} | reply.headers)
    await response.prepare(request)
    for frame in [reply.raw] if reply.raw is not None else frames(reply, asked):
        await response.write(frame)
        await asyncio.sleep(reply.pause)
    if reply.drops:
        assert request.transport is not None
        request.transport.abort()
        raise ConnectionResetError
    if reply.hangs:
        await asyncio.sleep(3600)
    return response


def frames(reply: Reply, asked: Asked) -> list[bytes]:
    """The events of an answer in the protocol of the path that was asked."""
    if asked.path.endswith("/messages"):
        return [
            f"event: {event.type}\ndata: {event.model_dump_json(exclude_none=True)}\n\n".encode()
            for event in anthropic_events(reply)
        ]
    if ":streamGenerateContent" in asked.path:
        return [
            f"data: {chunk.model_dump_json(by_alias=True, exclude_none=True)}\r\n\r\n".encode()
            for chunk in gemini_chunks(reply)
        ]
    # Some providers tell their counts unasked, and none of them minds.
    body = asked.body | {"stream_options": {"include_usage": True}}
    made = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks(reply, body)]
    return made if reply.drops or reply.hangs else [*made, b"data: [DONE]\n\n"]


def anthropic_events(reply: Reply) -> list[Any]:
    """A message as the Messages API streams it: each block begins, grows and ends."""
    usage = anthropic.Usage(
        input_tokens=7, output_tokens=1, cache_read_input_tokens=20, cache_creation_input_tokens=3
    )
    message = anthropic.Message(
        id="msg_1", content=[], model="m", role="assistant", type="message", usage=usage
    )
    made: list[Any] = [anthropic.RawMessageStartEvent(type="message_start", message=message)]
    blocks: list[tuple[Any, list[Any]]] = []
    if reply.thinking:
        thought = anthropic.ThinkingBlock(type="thinking", thinking="", signature="")
        deltas: list[Any] = [
            anthropic.ThinkingDelta(type="thinking_delta", thinking=piece) for piece in reply.thinking
        ]
        deltas.append(anthropic.SignatureDelta(type="signature_delta", signature="signed"))
        blocks.append((thought, deltas))
        sealed = anthropic.RedactedThinkingBlock(type="redacted_thinking", data="sealed")
        blocks.append((sealed, []))
    if reply.text:
        text = anthropic.TextBlock(type="text", text="")
        blocks.append((text, [anthropic.TextDelta(type="text_delta", text=piece) for piece in reply.text]))
    for number, call in enumerate(reply.calls):
        use = anthropic.ToolUseBlock(
            type="tool_use", id=call.id or f"toolu_{number}", name=call.name, input={}
        )
        written = json.dumps(call.arguments) if call.written is None else call.written
        halves = ["", written[: len(written) // 2], written[len(written) // 2 :]]
        blocks.append(
            (use, [anthropic.InputJSONDelta(type="input_json_delta", partial_json=half) for half in halves])
        )
    for index, (block, deltas) in enumerate(blocks):
        made.append(
            anthropic.RawContentBlockStartEvent(type="content_block_start", index=index, content_block=block)
        )
        made += [
            anthropic.RawContentBlockDeltaEvent(type="content_block_delta", index=index, delta=delta)
            for delta in deltas
        ]
        made.append(anthropic.RawContentBlockStopEvent(type="content_block_stop", index=index))
    if reply.drops or reply.hangs:
        return made
    from anthropic.types.raw_message_delta_event import Delta

    reason: Any = reply.finish or ("tool_use" if reply.calls else "end_turn")
    made.append(
        anthropic.RawMessageDeltaEvent(
            type="message_delta",
            delta=Delta(stop_reason=reason),
            usage=anthropic.MessageDeltaUsage(output_tokens=5),
        )
    )
    made.append(anthropic.RawMessageStopEvent(type="message_stop"))
    return made


def gemini_chunks(reply: Reply) -> list[gemini.GenerateContentResponse]:
    """Content as the Gemini API streams it: parts in chunks, calls whole, the reason and the counts last."""
    parts = [gemini.Part(text=piece, thought=True) for piece in reply.thinking]
    parts += [gemini.Part(text=piece) for piece in reply.text]
    for number, call in enumerate(reply.calls):
        asked = gemini.FunctionCall(name=call.name, args=call.arguments, id=call.id or None)
        # Only the first call of a step is signed.
        signature = b"signed" if number == 0 else None
        parts.append(gemini.Part(function_call=asked, thought_signature=signature))
    made = [_candidate([part]) for part in parts]
    if reply.drops or reply.hangs:
        return made
    usage = gemini.GenerateContentResponseUsageMetadata(
        prompt_token_count=30,
        candidates_token_count=5,
        thoughts_token_count=4,
        cached_content_token_count=20,
        total_token_count=39,
    )
    last = _candidate([], reply.finish or "STOP")
    return [*made, last.model_copy(update={"usage_metadata": usage})]


def _candidate(parts: list[gemini.Part], finish: str | None = None) -> gemini.GenerateContentResponse:
    content = gemini.Content(role="model", parts=parts)
    reason = gemini.FinishReason(finish) if finish else None
    return gemini.GenerateContentResponse(
        candidates=[gemini.Candidate(content=content, index=0, finish_reason=reason)]
    )


@asynccontextmanager
async def serve_fake_providers() -> AsyncIterator[FakeProviders]:
    fake: FakeProviders | None = None

    async def answer(request: web.Request) -> web.StreamResponse:
        assert fake is not None
        return await fake.answer(request)

    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_post("/{rest:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake = FakeProviders(runner.addresses[0][1])
    try:
        yield fake
    finally:
        with suppress(asyncio.TimeoutError):
            await runner.cleanup()
