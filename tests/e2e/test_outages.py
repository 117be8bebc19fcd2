"""Postgres and Redis go away under a running platform, loudly and silently, and come back: what its callers see."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.conftest import migrated_database
from tests.fakes.fault_proxy import FaultProxy, Line, fault_proxy
from tests.fakes.model_server import say, serve_fake_models
from tests.promises import Promise, size
from tests.starting import started

OUTAGE_SECONDS = size(5, 30)
# No request hangs for longer. A silent Postgres is given up after 2 s; a request may meet it in two services, one after
# the other: in the one that answers it, and in the gateway when that notes the outcome.
MOST_SECONDS = 5
BACK_SECONDS = 5
PAUSE_SECONDS = 0.1


@dataclass
class Stage:
    """A platform whose servers are reached by way of proxies, and an admin of it."""

    http: httpx.AsyncClient
    proxies: dict[str, FaultProxy]


class Load:
    """Callers who read, chat and give tasks, one request after the other each."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.codes: Counter[str] = Counter()
        self.slowest = 0.0
        self.over = False

    async def read(self) -> bool:
        return await self._asked("GET", "/api/v1/agents")

    async def chat(self) -> bool:
        return await self._asked("POST", "/api/v1/schemas/outage/chat", {"message": "hi"})

    async def task(self) -> bool:
        return await self._asked("POST", "/api/v1/tasks", {"title": "later", "agent": "outage"})

    async def run(self) -> None:
        """Until it is over."""

        async def again(ask: Any) -> None:
            while not self.over:
                await ask()
                await asyncio.sleep(PAUSE_SECONDS)

        await asyncio.gather(*(again(ask) for ask in (self.read, self.chat, self.task)))

    async def is_well(self) -> bool:
        return all(await asyncio.gather(self.read(), self.chat(), self.task()))

    async def _asked(self, method: str, path: str, body: Any = None) -> bool:
        began = time.monotonic()
        answer = await self._http.request(method, path, json=body)
        self.slowest = max(self.slowest, time.monotonic() - began)
        word = str(answer.status_code)
        if answer.status_code == 503:
            assert answer.headers["retry-after"], answer.text
        elif "event-stream" in answer.headers.get("content-type", ""):
            # Whatever happens, a stream says how it ended.
            assert answer.text.rstrip().splitlines()[-2] == "event: done", answer.text
            word = "stream with an error" if "event: error" in answer.text else "stream"
        else:
            assert answer.status_code < 300, answer.text
        self.codes[word] += 1
        return word in ("200", "201", "stream")


@pytest.fixture(scope="module")
async def stage(
    postgres_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(migrated_database(postgres_dsn))
        models = await stack.enter_async_context(serve_fake_models())
        # A number of its own: a worker takes up whatever waits in its Redis.
        urls = {"postgres": dsn, "redis": urlsplit(redis_url)._replace(path="/9").geturl()}
        proxies = {name: await stack.enter_async_context(_before(url)) for name, url in urls.items()}
        settings = {
            "WEIR_DATABASE_URL": proxies["postgres"].in_url(urls["postgres"]),
            "WEIR_REDIS_URL": proxies["redis"].in_url(urls["redis"]),
        }
        starting = started(tmp_path_factory.mktemp("outages"), WEIR_DEMO="0", **settings)
        # In a thread: the proxies are served by this loop meanwhile.
        platform = await asyncio.to_thread(starting.__enter__)
        stack.push_async_callback(asyncio.to_thread, starting.__exit__, None, None, None)
        headers = await asyncio.to_thread(platform.session)
        async with httpx.AsyncClient(base_url=platform.url, headers=headers, timeout=60) as http:
            model = {"type": "openai_compatible", "base_url": models.base_url, "api_key": "k"}
            wanted = [
                ("models", model | {"model_name": models.brain(say("hi")).name}),
                ("agents", {"model": "outage", "system": "Help."}),
                ("schemas", {"entry_agent_id": "outage", "chat_enabled": True}),
            ]
            for noun, body in wanted:
                made = await http.post(f"/api/v1/{noun}", json={"name": "outage", **body})
                assert made.status_code == 201, made.text
            yield Stage(http, proxies)


@pytest.mark.promise("P20")
@pytest.mark.parametrize("line", ["cut", "black_hole"])
@pytest.mark.parametrize("server", ["postgres", "redis"])
async def test_a_server_that_goes_away_is_told_of_and_comes_back(
    stage: Stage, server: str, line: Line, promise: Promise
) -> None:
    load = Load(stage.http)
    assert await load.is_well()
    running = asyncio.create_task(load.run())
    await stage.proxies[server].set(line)
    began = time.monotonic()
    readiness: Counter[int] = Counter()
    try:
        while time.monotonic() - began < OUTAGE_SECONDS and not running.done():
            asked = time.monotonic()
            readiness[(await stage.http.get("/api/v1/ready")).status_code] += 1
            assert time.monotonic() - asked < MOST_SECONDS
            assert (await stage.http.get("/api/v1/live")).status_code == 200
            await asyncio.sleep(PAUSE_SECONDS)
    finally:
        await stage.proxies[server].set("good")
    mended = time.monotonic()
    load.over = True
    await running
    during = dict(load.codes)
    while not (await load.is_well() and (await stage.http.get("/api/v1/ready")).status_code == 200):
        await asyncio.sleep(PAUSE_SECONDS)
    back = time.monotonic() - mended
    assert load.slowest < MOST_SECONDS
    assert back < BACK_SECONDS
    if server == "postgres":
        assert set(readiness) == {503}
    else:
        assert set(readiness) == {200}
        assert set(during) <= {"200", "201", "stream"}
    promise.held(
        f"{server} {line} for {OUTAGE_SECONDS} s: answers {during}, /ready {dict(readiness)}, "
        f"slowest {load.slowest:.1f} s (at most {MOST_SECONDS} s), all well {back:.1f} s after, no restart"
    )


def _before(url: str) -> Any:
    parts = urlsplit(url)
    return fault_proxy(parts.hostname or "", parts.port or 0)
