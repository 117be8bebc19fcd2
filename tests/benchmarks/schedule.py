"""A load with a fixed schedule, in a process of its own: latency counts from the moment at which a request was due.

A client that waits for an answer before it asks again hides what a slow server costs (wrk2's "coordinated omission").
`python -m tests.benchmarks.schedule` reads a plan on its standard input and tells on its output what became of it.
"""

import asyncio
import sys
import time
from collections import Counter

import msgspec
import uvloop
from msgspec import Struct
from tests.benchmarks.load import Connection, Listener
from tests.starting import ROOT

CONNECTIONS = 256
# A request that was never answered; the connection was lost instead.
BROKEN = 0


class Flow(Struct, kw_only=True):
    """Requests of one kind: so many a second (`rate`), or so many clients that ask again at once (`clients`).

    `{n}` in the body is the request's number. With `first`, `last` an answer is a stream: it is timed to its first
    piece with these characters, and whole when it has the last ones.
    """

    name: str
    address: str
    path: str
    headers: dict[str, str]
    method: str = "GET"
    body: str = ""
    rate: float = 0
    clients: int = 0
    first: str = ""
    last: str = ""


class Plan(Struct, kw_only=True):
    seconds: float
    flows: list[Flow]


class Answered(Struct, array_like=True):
    """One answer; seconds from when it was due to when it was sent, and from there to its end."""

    status: int
    late: float
    taken: float
    has_retry_after: bool = False


class Told(Struct, kw_only=True):
    """What became of one flow."""

    name: str
    seconds: float
    answers: list[Answered]

    @property
    def counts(self) -> Counter[int]:
        return Counter(answer.status for answer in self.answers)

    def rate(self, status: int = 200) -> float:
        return self.counts[status] / self.seconds

    def ms(self, percent: float, *statuses: int, is_sent: bool = False) -> float:
        """From the moment it was due, or from the one at which it was sent; 0 where there is none."""
        wanted = statuses or (200,)
        found = sorted(
            answer.taken + (0 if is_sent else answer.late)
            for answer in self.answers
            if answer.status in wanted
        )
        return 1000 * found[min(len(found) - 1, int(len(found) * percent / 100))] if found else 0.0


async def follow(seconds: float, *flows: Flow) -> dict[str, Told]:
    """Runs a plan in a process of its own; what became of its flows, by name."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.benchmarks.schedule"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    plan = msgspec.json.encode(Plan(seconds=seconds, flows=list(flows)))
    try:
        told, _ = await process.communicate(plan)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"the driver ended with {process.returncode}"
    return {flow.name: flow for flow in msgspec.json.decode(told, type=list[Told])}


class _Driver:
    """One flow under way."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._free: list[Connection] = []
        self._ears: list[Listener] = []
        # More would only wait in the server's own queue of connections, where they are asked for again after a second.
        self._permits = asyncio.Semaphore(CONNECTIONS)
        self._number = 0
        self.answers: list[Answered] = []

    async def run(self, seconds: float) -> Told:
        began = time.perf_counter()
        if self._flow.clients:
            await asyncio.gather(*(self._client(began + seconds) for _ in range(self._flow.clients)))
        else:
            await self._keep_to_schedule(began, seconds)
        taken = time.perf_counter() - began
        return Told(name=self._flow.name, seconds=taken, answers=self.answers)

    async def _client(self, until: float) -> None:
        while (now := time.perf_counter()) < until:
            await self._ask(now)

    async def _keep_to_schedule(self, began: float, seconds: float) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(round(self._flow.rate * seconds)):
                due = began + number / self._flow.rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(self._ask(due))

    async def _ask(self, due: float) -> None:
        async with self._permits:
            self._number += 1
            body = self._flow.body.replace("{n}", str(self._number)).encode()
            sent = time.perf_counter()
            try:
                status, taken, has_retry_after = await (
                    self._listen(body) if self._flow.first else self._exchange(body)
                )
            except (OSError, EOFError, RuntimeError):
                status, taken, has_retry_after = BROKEN, time.perf_counter() - sent, False
            self.answers.append(Answered(status, sent - due, taken, has_retry_after))

    async def _exchange(self, body: bytes) -> tuple[int, float, bool]:
        connection = self._free.pop() if self._free else Connection(self._flow.address)
        reply = await connection.ask(self._flow.method, self._flow.path, self._flow.headers, body)
        self._free.append(connection)
        return reply.status, reply.total, b"\r\nretry-after:" in reply.head.lower()

    async def _listen(self, body: bytes) -> tuple[int, float, bool]:
        ears = self._ears.pop() if self._ears else Listener(self._flow.address)
        first, last = self._flow.first.encode(), self._flow.last.encode()
        taken = await ears.until(self._flow.path, self._flow.headers, body, first, end=last)
        self._ears.append(ears)
        return 200, taken, False


async def _main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    told = await asyncio.gather(*(_Driver(flow).run(plan.seconds) for flow in plan.flows))
    sys.stdout.buffer.write(msgspec.json.encode(told))


if __name__ == "__main__":
    uvloop.run(_main())
