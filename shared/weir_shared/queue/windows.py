"""Sliding windows in Redis: exact counts of what happened within the last so many seconds, for any number of processes.

Each window is a sorted set of moments (the server's clock, microseconds). One script looks at all windows of a request
and counts it in all of them or, when one is full, in none.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from weir_shared.ids import new_id
from weir_shared.queue.doorbell import ANSWER_SECONDS

_PREFIX = "weir:window:"
# Who asks while others wait for an answer is asked for together with whoever came meanwhile.
MOST_TOGETHER = 256
# An answer that came while this process stood still is read within the next of these.
PATIENCE_PARTS = 4
_ADMIT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full, seen = 0, {}
for i, key in ipairs(KEYS) do
    local most, span = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now - span)
    local count = redis.call('ZCARD', key)
    local oldest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    seen[i] = {count, tonumber(oldest[2] or now)}
    if count >= most and full == 0 then full = i end
end
if full == 0 then
    for i, key in ipairs(KEYS) do
        redis.call('ZADD', key, now, ARGV[1] .. ':' .. ARGV[3 * i + 1])
        redis.call('PEXPIRE', key, math.ceil(tonumber(ARGV[3 * i]) / 1000))
        seen[i][1] = seen[i][1] + 1
    end
end
local told = {full, string.format('%.0f', now)}
for i = 1, #KEYS do
    told[#told + 1] = seen[i][1]
    told[#told + 1] = string.format('%.0f', seen[i][2])
end
return told
"""


class Window(Struct, frozen=True, kw_only=True):
    """What is counted together, how often it may happen within so many seconds, and under which label now."""

    key: str
    most: int
    seconds: float
    label: str = ""


class Seen(Struct, frozen=True, kw_only=True):
    """A window after a look: how many are in it, and the Unix time at which the oldest leaves it."""

    count: int
    resets_at: float


class Looked(Struct, frozen=True):
    """Moments in a window's key, oldest first, and the label of the newest; of any age that is still kept."""

    moments: list[float]
    label: str | None
    now: float

    def within(self, seconds: float) -> Seen:
        moments = [moment for moment in self.moments if moment > self.now - seconds]
        return Seen(count=len(moments), resets_at=(moments[0] if moments else self.now) + seconds)


class Windows:
    """Counts in the windows of all processes that share a Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._sha: str = redis.register_script(_ADMIT).sha
        self._waiting: list[_Question] = []
        self._asking: asyncio.Task[None] | None = None

    async def admit(self, windows: Sequence[Window]) -> tuple[int | None, float, list[Seen]]:
        """The place of the first full window or None, the server's Unix time, and each window as it is now.

        Raises RedisError and OSError.
        """
        arguments: list[Any] = [new_id()]
        for window in windows:
            arguments += [window.most, round(window.seconds * 1e6), window.label]
        told = await self._ask([_PREFIX + window.key for window in windows], arguments)
        full, now = int(told[0]), int(told[1]) / 1e6
        seen = [
            Seen(count=int(told[2 + 2 * n]), resets_at=int(told[3 + 2 * n]) / 1e6 + window.seconds)
            for n, window in enumerate(windows)
        ]
        return (full - 1 if full else None), now, seen

    async def _ask(self, keys: list[str], arguments: list[Any]) -> list[Any]:
        """The script's answer. A burst is a few messages on one connection, not one on each of hundreds."""
        question = _Question(keys, arguments, asyncio.get_running_loop().create_future())
        self._waiting.append(question)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return await question.answer

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                questions, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
                try:
                    answers = await _patiently(self._send(questions))
                except (RedisError, OSError) as fault:
                    answers = [fault] * len(questions)
                for question, answer in zip(questions, answers, strict=True):
                    question.be_told(answer)
        finally:
            self._asking = None

    async def _send(self, questions: Sequence["_Question"]) -> list[Any]:
        """An answer, or what is wrong, for each."""
        answers = await self._evaluate(questions)
        unknown = [n for n, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            await self._redis.script_load(_ADMIT)
            for n, answer in zip(unknown, await self._evaluate([questions[n] for n in unknown]), strict=True):
                answers[n] = answer
        return answers

    async def _evaluate(self, questions: Sequence["_Question"]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for question in questions:
                pipeline.evalsha(self._sha, len(question.keys), *question.keys, *question.arguments)
            return await pipeline.execute(raise_on_error=False)

    async def look(self, key: str) -> Looked:
        """What is in a window, which is not changed. Raises RedisError and OSError."""
        async with asyncio.timeout(ANSWER_SECONDS):
            seconds, micros = await self._redis.time()
            found = await self._redis.zrange(_PREFIX + key, 0, -1, withscores=True)
        label = found[-1][0].decode().partition(":")[2] if found else None
        return Looked([score / 1e6 for _, score in found], label, seconds + micros / 1e6)


class _Question:
    """Windows that somebody wants to be counted in."""

    def __init__(self, keys: list[str], arguments: list[Any], answer: "asyncio.Future[list[Any]]") -> None:
        self.keys = keys
        self.arguments = arguments
        self.answer = answer

    def be_told(self, told: list[Any] | BaseException) -> None:
        if self.answer.done():
            # Whoever asked has gone; it is counted all the same.
            return
        if isinstance(told, BaseException):
            self.answer.set_exception(told)
        else:
            self.answer.set_result(told)


async def _patiently(asking: Coroutine[Any, Any, list[Any]]) -> list[Any]:
    """Within ANSWER_SECONDS, of which a moment in which the process stood still takes a part only. Raises TimeoutError."""
    task = asyncio.create_task(asking)
    try:
        for _ in range(PATIENCE_PARTS):
            if (await asyncio.wait({task}, timeout=ANSWER_SECONDS / PATIENCE_PARTS))[0]:
                return task.result()
        raise TimeoutError
    finally:
        task.cancel()
