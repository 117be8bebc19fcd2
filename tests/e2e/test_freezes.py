"""Each part of a platform stands still for a while, or is killed, under a light load: nothing that was accepted is lost."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tests.benchmarks.standing import LAKE, Standing
from tests.fakes.model_server import say, serve_fake_models
from tests.promises import Promise, size
from tests.starting import started

FROZEN_SECONDS = size(1, 3)
# No request hangs for longer than the freeze and this.
MOST_SECONDS = 5
BACK_SECONDS = 5
# The supervisor's pause and the start of a process, on a machine that has other things to do.
RESTART_SECONDS = 90
PAUSE_SECONDS = 0.1
PARTS = (
    "worker",
    "agent-engine",
    "context-lake",
    "gateway",
    "lake-host",
    "runtime",
    "valkey",
    "postgres",
)
# What the drills of runtimes and of tasks do not kill.
KILLED = ("agent-engine", "gateway")
ROWS = 3000


@dataclass
class Load:
    """Callers who read, chat, query and give tasks through the gateway, one request after the other each."""

    http: httpx.AsyncClient
    codes: Counter[str] = field(default_factory=Counter)
    tasks: dict[str, str] = field(default_factory=dict)
    slowest: float = 0.0
    asked: int = 0
    over: bool = False

    async def run(self) -> None:
        await asyncio.gather(*(self._again(ask) for ask in (self.read, self.chat, self.query, self.task)))

    async def _again(self, ask: Callable[[], Awaitable[bool]]) -> None:
        while not self.over:
            await ask()
            await asyncio.sleep(PAUSE_SECONDS)

    async def is_well(self) -> bool:
        return all(await asyncio.gather(self.read(), self.chat(), self.query(), self.task()))

    async def read(self) -> bool:
        return await self._tell("GET", "/api/v1/agents") is not None

    async def chat(self) -> bool:
        answer = await self._tell("POST", "/api/v1/schemas/freeze/chat", {"message": "hi"})
        if answer is None:
            return False
        # Whatever happens, a stream that is not cut says how it ended.
        assert answer.text.rstrip().splitlines()[-2] == "event: done", answer.text
        return "event: error" not in answer.text

    async def query(self) -> bool:
        body = {"query": f"select count(*) + {self.asked} as n from numbers"}
        answer = await self._tell("POST", f"{LAKE}/sql", body)
        if answer is None:
            return False
        assert answer.json()["rows"][0]["n"] - ROWS <= self.asked
        return True

    async def task(self) -> bool:
        """Asked again with the same key until it is accepted, as a client does."""
        key = f"freeze-{len(self.tasks)}"
        body = {"title": key, "agent": "freeze"}
        answer = await self._tell("POST", "/api/v1/tasks", body, {"Idempotency-Key": key})
        if answer is not None:
            self.tasks[key] = answer.json()["id"]
        return answer is not None

    async def _tell(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> httpx.Response | None:
        self.asked += 1
        began = time.monotonic()
        try:
            answer = await self.http.request(method, path, json=body, headers=headers)
        except httpx.TransportError:
            self.codes["cut"] += 1
            return None
        finally:
            self.slowest = max(self.slowest, time.monotonic() - began)
        self.codes[str(answer.status_code)] += 1
        if answer.status_code < 300:
            return answer
        # What is away for the moment is told as such.
        assert answer.status_code in (429, 503, 504), answer.text
        return None


@dataclass
class Stage:
    standing: Standing
    load: Load

    def pids_of(self, part: str) -> list[int]:
        if part == "runtime":
            return [pid for pid in self.standing.processes_of("lake-host") if pid not in self._hosts()]
        if part == "valkey":
            port = str(urlsplit(self.standing.environment["WEIR_REDIS_URL"]).port)
            return [pid for pid, line in _commands() if "valkey" in line and port in line]
        if part == "postgres":
            page = self.standing.platform.data_dir / "postgres" / "postmaster.pid"
            server = int(page.read_text().split()[0])
            return [server, *(pid for pid, _ in _commands() if _parent_of(pid) == server)]
        return self._hosts() if part == "lake-host" else self.standing.processes_of(part)

    def _hosts(self) -> list[int]:
        """The host, and not what it forked."""
        found = self.standing.processes_of("lake-host")
        return [pid for pid in found if _parent_of(pid) not in found]


@pytest.fixture
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    with started(tmp_path_factory.mktemp("freezes"), WEIR_DEMO="0") as platform:
        standing = Standing(platform)
        path = platform.data_dir / "imports" / "numbers.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("id\n" + "".join(f"{n}\n" for n in range(ROWS)))
        async with (
            serve_fake_models() as models,
            httpx.AsyncClient(base_url=platform.url, headers=standing.headers, timeout=60) as http,
        ):
            model = {"type": "openai_compatible", "base_url": models.base_url, "api_key": "k"}
            wanted = [
                ("/api/v1/models", model | {"name": "freeze", "model_name": models.brain(say("hi")).name}),
                ("/api/v1/agents", {"name": "freeze", "model": "freeze", "system": "Help."}),
                ("/api/v1/schemas", {"name": "freeze", "entry_agent_id": "freeze", "chat_enabled": True}),
                (f"{LAKE}/datasets", {"name": "numbers", "from": f"file:{path.resolve()}"}),
            ]
            for where, body in wanted:
                made = await http.post(where, json=body)
                assert made.status_code == 201, made.text
            yield Stage(standing, Load(http))


@pytest.mark.promise("P20")
@pytest.mark.timeout(900)
async def test_parts_that_stand_still_or_die_in_turn_lose_nothing_that_was_accepted(
    stage: Stage, promise: Promise
) -> None:
    load = stage.load
    await _well_within(load, RESTART_SECONDS)
    load.slowest, back = 0.0, dict[str, float]()
    running = asyncio.create_task(load.run())
    for part in PARTS:
        pids = stage.pids_of(part)
        assert pids, part
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(FROZEN_SECONDS)
        for pid in pids:
            # One that was replaced meanwhile is gone.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        back[part] = await _well_within(load, RESTART_SECONDS)
    slowest = load.slowest
    for pid in [pid for part in KILLED for pid in stage.pids_of(part)]:
        os.kill(pid, signal.SIGKILL)
    restart = await _well_within(load, RESTART_SECONDS)
    load.over = True
    await running
    states = await _states_of(load)
    assert Counter(states.values()) == {"completed": len(load.tasks)}, states
    assert max(back.values()) < BACK_SECONDS, back
    assert slowest < FROZEN_SECONDS + MOST_SECONDS
    promise.held(
        f"{len(PARTS)} parts frozen for {FROZEN_SECONDS} s in turn ({', '.join(PARTS)}): all well {max(back.values()):.1f} s "
        f"after at most, slowest request {slowest:.1f} s; {' and '.join(KILLED)} killed: well after {restart:.1f} s; "
        f"answers {dict(load.codes)}, {len(load.tasks)} tasks accepted and completed, 0 lost"
    )


async def _well_within(load: Load, seconds: float) -> float:
    """How long it took until everything was answered as it should."""
    began = time.monotonic()
    while not await load.is_well():
        assert time.monotonic() - began < seconds, load.codes
        await asyncio.sleep(PAUSE_SECONDS)
    return time.monotonic() - began


async def _states_of(load: Load) -> dict[str, str]:
    """Of every accepted task, once it has ended."""
    states = dict[str, str]()
    until = time.monotonic() + RESTART_SECONDS
    for key, id in load.tasks.items():
        while True:
            answer = await load.http.get(f"/api/v1/tasks/{id}")
            assert answer.status_code == 200, answer.text
            states[key] = answer.json()["status"]
            if states[key] in ("completed", "failed", "cancelled"):
                break
            assert time.monotonic() < until, states
            await asyncio.sleep(0.1)
    return states


def _commands() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace")


def _parent_of(pid: int) -> int:
    """0 of a process that is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
