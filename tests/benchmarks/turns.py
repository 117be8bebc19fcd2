"""The engine's figures: turns of 50 tokens with a model that takes no time, everything recorded; many open streams."""

import asyncio
import json
import time
from dataclasses import dataclass, field

from tests.benchmarks.load import Listener, drive
from tests.benchmarks.model import PACED_TOKENS, TOKENS
from tests.benchmarks.report import Report
from tests.benchmarks.standing import JSON, Standing, fake_model, own_cpu_seconds, plain_relay

CLIENTS = 64
TURNS = 2000
ALONE = 200
STREAMS = 512
PACE = 0.02
TABLES = ("sessions", "turns", "messages")
# Rows that a turn of one step may cost, however many tokens it has.
MOST_WRITES = 6.0
# A session, a turn and two messages are there afterwards.
LEAST_WRITES = 4.0
TOLD_AFTER_SECONDS = 13


@dataclass(frozen=True)
class Question:
    """What a turn is asked by, and what its first piece of text and its end hold."""

    path: str
    body: bytes
    first: bytes
    end: bytes


CHAT = Question(
    path="/api/v1/schemas/bench/chat",
    body=json.dumps({"message": "hello"}).encode(),
    first=b"message_delta",
    end=b"event: message\n",
)

# The model itself, without a platform.
MODEL = Question(
    path="/v1/chat/completions",
    body=json.dumps({"model": "bench", "messages": [], "stream": True}).encode(),
    first=b"token0 ",
    end=b"[DONE]",
)


@dataclass
class Load:
    """What many clients saw: seconds to the first piece of text of each turn, and to its end."""

    seconds: float = 0.0
    firsts: list[float] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    failures: int = 0

    @property
    def rate(self) -> float:
        return len(self.totals) / self.seconds

    def first(self, part: float) -> float:
        return percentile(self.firsts, part)

    def told(self, part: float) -> float:
        """Seconds from the first token of a turn to its end."""
        told = [total - first for total, first in zip(self.totals, self.firsts, strict=True)]
        return percentile(told, part)


async def turns(standing: Standing, report: Report) -> None:
    """Turns a second, time to the first token, and what a turn writes."""
    report.title(f"Turns of {TOKENS} tokens, a model of zero think time, every turn in Postgres")
    with fake_model() as model_url:
        furnish(standing, model_url)
        raw_body = json.dumps({"model": "bench", "messages": [], "stream": True}).encode()
        raw = await drive(
            model_url, "/v1/chat/completions", JSON, raw_body, clients=1, requests=ALONE, expect=b"[DONE]"
        )
        doors = {
            "engine": (standing.engine_url, standing.ticket("agent-engine")),
            "gateway": (standing.platform.url, standing.headers),
        }
        for name, (where, headers) in doors.items():
            await load(where, headers, clients=8, turns=100)
            one = await load(where, headers, clients=1, turns=ALONE)
            before = standing.cpu_seconds()
            many = await load(where, headers, clients=CLIENTS, turns=TURNS)
            spent = {kind: seconds - before.get(kind, 0) for kind, seconds in standing.cpu_seconds().items()}
            goal = name == "gateway"
            failures = one.failures + many.failures
            report.add(f"{name}: turns that failed", str(failures), "0", reached=failures == 0)
            report.add(
                f"{name}: turns/s with {CLIENTS} clients",
                f"{many.rate:.0f}",
                "≥ 200 (aim 400)" if goal else "",
                reached=many.rate >= 200 if goal else None,
            )
            shares = ", ".join(
                f"{kind} {s / TURNS * 1000:.2f}" for kind, s in spent.items() if s / TURNS > 5e-5
            )
            report.add(f"{name}: CPU per turn, ms", shares)
            added = (one.first(0.5) - raw.first_p50) * 1000
            report.add(
                f"{name}: first token above the raw model, 1 client (p50)",
                f"{added:.2f} ms",
                "≤ 10 ms" if goal else "",
                reached=added <= 10 if goal else None,
            )
            spread = many.first(0.99) / many.first(0.5)
            report.add(
                f"{name}: first token with {CLIENTS} clients, p50 / p99",
                f"{many.first(0.5) * 1000:.0f} / {many.first(0.99) * 1000:.0f} ms ({spread:.1f} ×)",
                "p99 ≤ 4 × p50" if goal else "",
                reached=spread <= 4 if goal else None,
            )
            report.add(f"{name}: whole turn, 1 client (p50)", f"{percentile(one.totals, 0.5) * 1000:.2f} ms")
        await _writes(standing, report)


async def streams(standing: Standing, report: Report) -> None:
    """Open streams at the pace of a person's reading: how late they are, and what each costs in memory."""
    ideal = PACED_TOKENS * PACE
    report.title(
        f"{STREAMS} open streams through the gateway, {PACED_TOKENS} tokens, one every {PACE * 1000:.0f} ms"
    )
    with fake_model(pace=PACE) as model_url:
        furnish(standing, model_url)
        # What the machine can do at best: the same streams with nothing between, and with two processes that
        # hand on bytes where the engine and the gateway stand.
        await _at_best(report, "the model itself", model_url, ideal)
        with plain_relay(model_url) as inner, plain_relay(inner) as outer:
            best = await _at_best(report, "two plain relays", outer, ideal)
        # What a process in use has already, whatever runs: its connections to the database, its caches.
        await load(standing.platform.url, standing.headers, clients=64, turns=64)
        rows = await _rows(standing)
        before, used, own = standing.processes(), standing.cpu_seconds(), own_cpu_seconds()
        watching = asyncio.create_task(_peak(standing))
        many = await load(
            standing.platform.url, standing.headers, clients=STREAMS, turns=STREAMS, ramp=0.8 * ideal
        )
        watching.cancel()
        peak = await watching
        spent = _since(used, standing.cpu_seconds()) | _since(own, own_cpu_seconds())
        report.add("turns that failed", str(many.failures), "0", reached=many.failures == 0)
        late = many.told(0.99) / ideal
        report.add(
            f"first to last token, p50 / p99 (ideal {ideal:.2f} s)",
            f"{many.told(0.5):.2f} / {many.told(0.99):.2f} s",
            "p99 ≤ 1.1 × ideal",
            reached=late <= 1.1,
        )
        report.add("p99 against two plain relays", f"{many.told(0.99) / best.told(0.99):.2f} ×")
        report.add(
            "first token, p50 / p99", f"{many.first(0.5) * 1000:.0f} / {many.first(0.99) * 1000:.0f} ms"
        )
        _add_processors(report, spent, many)
        for kind in ("gateway", "agent-engine"):
            grown = (peak.get(kind, 0) - before.get(kind, 0)) / STREAMS / 1024
            report.add(f"{kind}: memory per open stream", f"{grown:.0f} KiB")
        both = sum(peak.get(kind, 0) - before.get(kind, 0) for kind in ("gateway", "agent-engine"))
        each = both / STREAMS / 1024
        report.add("memory per open stream, both", f"{each:.0f} KiB", "≤ 100 KiB", reached=each <= 100)
        _add_writes(report, (await _rows(standing) - rows) / STREAMS, PACED_TOKENS)


async def _at_best(report: Report, name: str, where: str, ideal: float) -> Load:
    used = own_cpu_seconds()
    many = await load(
        where,
        JSON,
        clients=STREAMS,
        turns=STREAMS,
        ramp=0.8 * ideal,
        question=MODEL,
    )
    report.add(f"{name}: first to last token, p50 / p99", f"{many.told(0.5):.2f} / {many.told(0.99):.2f} s")
    _add_processors(report, _since(used, own_cpu_seconds()), many, f"{name}: ")
    return many


def _add_processors(report: Report, spent: dict[str, float], many: Load, name: str = "") -> None:
    each = ", ".join(
        f"{kind} {seconds / many.seconds:.2f}" for kind, seconds in spent.items() if seconds > 0.1
    )
    report.add(f"{name}processors used", f"{sum(spent.values()) / many.seconds:.2f} ({each})")
    tokens = PACED_TOKENS * STREAMS
    told = ", ".join(f"{kind} {s / tokens * 1e6:.0f}" for kind, s in spent.items() if s / tokens > 5e-7)
    report.add(f"{name}microseconds of a processor a token", told)


def _since(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    return {kind: seconds - before.get(kind, 0) for kind, seconds in now.items()}


async def load(
    where: str,
    headers: dict[str, str],
    *,
    clients: int,
    turns: int,
    ramp: float = 0.0,
    question: Question = CHAT,
) -> Load:
    """So many clients at once, each with a new session a turn, until so many turns are done.

    They begin one after the other over `ramp` seconds. `marks` are what the first token and the end look like.
    """
    result, left = Load(), turns

    async def one_client(number: int) -> None:
        nonlocal left
        await asyncio.sleep(ramp * number / clients)
        connection = Listener(where)
        while left > 0:
            left -= 1
            started = time.perf_counter()
            try:
                first = await connection.until(
                    question.path, headers, question.body, question.first, end=question.end
                )
            except RuntimeError:
                result.failures += 1
                continue
            result.firsts.append(first)
            result.totals.append(time.perf_counter() - started)
        await connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(one_client(number) for number in range(clients)))
    result.seconds = time.perf_counter() - started
    return result


def percentile(seconds: list[float], part: float) -> float:
    return sorted(seconds)[min(int(len(seconds) * part), len(seconds) - 1)]


def furnish(standing: Standing, model_url: str) -> None:
    """A model, an agent and a schema, which chats at CHAT."""
    body = {"type": "openai_compatible", "model_name": "bench", "base_url": f"{model_url}/v1"}
    if standing.client.get("/api/v1/models/bench").status_code == 200:
        standing.client.put("/api/v1/models/bench", json=body).raise_for_status()
        return
    wanted = {
        "/api/v1/models": {"name": "bench", **body},
        "/api/v1/agents": {"name": "bench", "model": "bench", "system": "Talk."},
        "/api/v1/schemas": {"name": "bench", "entry_agent_id": "bench", "chat_enabled": True},
    }
    for path, item in wanted.items():
        standing.client.post(path, json=item).raise_for_status()


async def _writes(standing: Standing, report: Report) -> None:
    """Rows that Postgres took for each turn: the same however many tokens a turn has."""
    many = 100
    before = await _rows(standing)
    await load(standing.platform.url, standing.headers, clients=8, turns=many)
    _add_writes(report, (await _rows(standing) - before) / many, TOKENS)


async def _rows(standing: Standing) -> int:
    """Rows written so far. A backend that idles tells what it did 10 s later: sooner, a part of it is missing."""
    await asyncio.sleep(TOLD_AFTER_SECONDS)
    return await standing.rows_written(*TABLES)


def _add_writes(report: Report, written: float, tokens: int) -> None:
    """Fewer rows than a turn leaves behind is a count that went wrong, and no good figure."""
    report.add(
        f"rows written per turn of {tokens} tokens",
        f"{written:.2f}",
        f"≤ {MOST_WRITES:.0f}",
        reached=LEAST_WRITES <= written <= MOST_WRITES,
    )


async def _peak(standing: Standing) -> dict[str, int]:
    """The most memory that each kind of process took, until it is cancelled."""
    most: dict[str, int] = {}
    try:
        while True:
            for kind, size in standing.processes().items():
                most[kind] = max(size, most.get(kind, 0))
            await asyncio.sleep(1)
    except asyncio.CancelledError:
        return most
