"""A fake model for measuring: 50 tokens, no thinking time, the least work a server can do.

`python -m tests.benchmarks.model PORT [SECONDS]` serves chat completions on loopback, and at their paths Anthropic's
messages and Gemini's content; chat completions with so many seconds between two tokens (0).
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

import uvloop

TOKENS = 50
# An answer with a pace goes round its tokens until there are so many.
PACED_TOKENS = 250
# How many moments of a pace there are at which an answer may be told its next token.
PHASES = 20
# The end of an event that is a chunk of its own.
END = b"\n\n\r\n"


def _event(delta: dict[str, object], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "bench",
        "choices": [choice],
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _answer() -> bytes:
    usage = {"prompt_tokens": 10, "completion_tokens": TOKENS, "total_tokens": TOKENS + 10}
    last = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "bench",
        "choices": [],
        "usage": usage,
    }
    events = [
        _event({"role": "assistant", "content": ""}),
        *(_event({"content": f"token{number} "}) for number in range(TOKENS)),
        _event({}, "stop"),
        b"data: " + json.dumps(last).encode() + b"\n\n",
        b"data: [DONE]\n\n",
    ]
    return _response(events)


def _messages() -> bytes:
    """The same answer as the Messages protocol streams it."""
    usage = {"input_tokens": 10, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": usage}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": f"token{number} "},
            }
            for number in range(TOKENS)
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": TOKENS},
        },
        {"type": "message_stop"},
    ]
    return _response([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events])


def _contents() -> bytes:
    """The same answer as the Gemini protocol streams it."""
    usage = {"promptTokenCount": 10, "candidatesTokenCount": TOKENS, "totalTokenCount": TOKENS + 10}

    def candidate(text: str, **fields: str) -> dict[str, Any]:
        return {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, **fields}

    chunks = [
        *({"candidates": [candidate(f"token{number} ")]} for number in range(TOKENS)),
        {"candidates": [candidate("", finishReason="STOP")]},
    ]
    return _response(
        [f"data: {json.dumps(chunk | {'usageMetadata': usage})}\r\n\r\n".encode() for chunk in chunks]
    )


def _response(events: list[bytes]) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + body


ANSWER, MESSAGES, CONTENTS = _answer(), _messages(), _contents()


def _told(answer: bytes) -> list[bytes]:
    """What each token's time brings of chat completions with a pace; the last piece is their end."""
    opening, *tokens = answer.split(END)
    rest = END.join(tokens[TOKENS:])
    said = [tokens[place % TOKENS] + END for place in range(PACED_TOKENS)]
    return [opening + END + said[0], *said[1:], rest]


TOLD = _told(ANSWER)


def _answer_to(head: bytes) -> bytes:
    path = head.partition(b"\r\n")[0]
    if b"/messages" in path:
        return MESSAGES
    return CONTENTS if b":streamGenerateContent" in path else ANSWER


class _Clock:
    """One timer for all answers with a pace: each gets its next piece at its time, which no delay moves."""

    def __init__(self, pace: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._step = pace / PHASES
        self._began = self._loop.time()
        self._ticks = 0
        self._phases: list[list[tuple[asyncio.Transport, Iterator[bytes]]]] = [[] for _ in range(PHASES)]
        self._tick()

    def tell(self, transport: asyncio.Transport, pieces: list[bytes]) -> None:
        transport.write(pieces[0])
        # The phase whose turn was just now: it comes again after one pace.
        self._phases[(self._ticks - 1) % PHASES].append((transport, iter(pieces[1:])))

    def _tick(self) -> None:
        while self._began + self._ticks * self._step <= self._loop.time():
            phase = self._ticks % PHASES
            self._phases[phase] = [told for told in self._phases[phase] if self._say(*told)]
            self._ticks += 1
        self._loop.call_at(self._began + self._ticks * self._step, self._tick)

    @staticmethod
    def _say(transport: asyncio.Transport, pieces: Iterator[bytes]) -> bool:
        piece = next(pieces, None)
        if piece is None or transport.is_closing():
            return False
        transport.write(piece)
        return True


class _Model(asyncio.Protocol):
    def __init__(self, clock: _Clock | None) -> None:
        self._inbox = b""
        self._clock = clock

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._inbox += data
        while True:
            head, found, rest = self._inbox.partition(b"\r\n\r\n")
            if not found:
                return
            lowered = head.lower()
            at = lowered.find(b"content-length:")
            length = int(lowered[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(rest) < length:
                return
            self._inbox = rest[length:]
            if self._clock is not None and b"POST /v1/chat" in head[:13]:
                self._clock.tell(self._transport, TOLD)
            else:
                self._transport.write(_answer_to(head))


async def _serve(port: int, pace: float) -> None:
    loop = asyncio.get_running_loop()
    clock = _Clock(pace) if pace else None
    server = await loop.create_server(lambda: _Model(clock), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
