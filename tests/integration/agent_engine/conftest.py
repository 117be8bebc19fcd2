"""A studio behind a real server, a fake model, and a caller with tickets."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from litestar import Litestar
from msgspec import Struct
from tests.fakes.model_server import Brain, FakeModels, Reply, serve_fake_models

from weir.agent_engine.app import create_app
from weir_shared.auth.keys import TICKET_KEY, load_or_create_key_pair
from weir_shared.auth.principal import Actor, Principal
from weir_shared.auth.tickets import HEADER, TicketOffice
from weir_shared.settings import Settings


class Frame(Struct, frozen=True, kw_only=True):
    """One frame of a stream: a comment, or an event with its id and data."""

    event: str = ""
    data: dict[str, Any] = {}
    id: str = ""
    comment: str = ""


class Streamed(Struct, frozen=True):
    """Everything that a stream held."""

    frames: list[Frame]

    @property
    def events(self) -> list[str]:
        return [frame.event for frame in self.frames if frame.event]

    @property
    def text(self) -> str:
        return "".join(frame.data["content"] for frame in self.of("message_delta"))

    @property
    def session_id(self) -> str:
        return self.one("done")["session_id"]

    def of(self, event: str) -> list[Frame]:
        return [frame for frame in self.frames if frame.event == event]

    def one(self, event: str) -> dict[str, Any]:
        [frame] = self.of(event)
        return frame.data


class Caller:
    """The API as one principal of one tenant sees it."""

    def __init__(self, url: str, office: TicketOffice, principal: Principal) -> None:
        self.principal = principal
        self.http = httpx.AsyncClient(
            base_url=url,
            headers={HEADER: office.issue(principal, "agent-engine")},
            timeout=30,
        )

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return await self.http.request(method, f"/api/v1{path}", json=body, **options)

    async def ask(self, status: int, method: str, path: str, body: Any = None) -> Any:
        response = await self.call(method, path, body)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    @asynccontextmanager
    async def streaming(
        self, path: str, body: Any = None, method: str = "POST", **options: Any
    ) -> AsyncIterator[AsyncIterator[Frame]]:
        async with self.http.stream(method, f"/api/v1{path}", json=body, **options) as response:
            assert response.status_code == 200, await response.aread()
            assert response.headers["content-type"].startswith("text/event-stream")
            yield frames_of(response.aiter_lines())

    async def chat(self, schema: str, message: str = "hi", session_id: str | None = None) -> Streamed:
        body = {"message": message} | ({"session_id": session_id} if session_id else {})
        async with self.streaming(f"/schemas/{schema}/chat", body) as frames:
            return Streamed([frame async for frame in frames])


async def frames_of(lines: AsyncIterator[str]) -> AsyncIterator[Frame]:
    block: list[str] = []
    async for line in lines:
        if line:
            block.append(line)
        elif block:
            yield _frame(block)
            block = []
    assert not block, "the stream ended within a frame"


def _frame(block: list[str]) -> Frame:
    if all(line.startswith(":") for line in block):
        return Frame(comment="\n".join(block))
    fields = dict(line.split(": ", 1) for line in block)
    return Frame(event=fields["event"], data=json.loads(fields["data"]), id=fields.get("id", ""))


class Assistant(Struct, frozen=True):
    """A schema to chat with, its agent and model, and the brain that answers."""

    schema: str
    agent: str
    model: str
    brain: Brain


class World:
    """The running studio, the fake models, and callers."""

    def __init__(self, app: Litestar, url: str, office: TicketOffice, models: FakeModels) -> None:
        self.app = app
        self.url = url
        self.models = models
        self._office = office

    def caller(
        self, tenant_id: str, *scopes: str, subject: str = "local-admin", actor: Actor = "user"
    ) -> Caller:
        principal = Principal(
            tenant_id=tenant_id, subject=subject, actor=actor, scopes=frozenset(scopes or ("admin",))
        )
        return Caller(self.url, self._office, principal)

    async def assistant(
        self, caller: Caller, *replies: Reply, schema: dict[str, Any] | None = None, **agent: Any
    ) -> Assistant:
        brain = self.models.brain(*replies)
        name = f"a-{uuid.uuid4().hex[:10]}"
        model = {
            "name": name,
            "type": "openai_compatible",
            "model_name": brain.name,
            "base_url": self.models.base_url,
            "api_key": "sk-test",
        }
        await caller.ask(201, "POST", "/models", model)
        await caller.ask(201, "POST", "/agents", {"name": name, "model": name, "system": "Help."} | agent)
        body = {"name": name, "entry_agent_id": name, "chat_enabled": True} | (schema or {})
        await caller.ask(201, "POST", "/schemas", body)
        return Assistant(name, name, name, brain)


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """The app behind uvicorn on a free port of loopback."""
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=0, log_config=None, lifespan="on", timeout_graceful_shutdown=1
        )
    )
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), task.result()
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture(scope="session")
async def fake_models() -> AsyncIterator[FakeModels]:
    async with serve_fake_models() as fake:
        yield fake


@pytest.fixture(scope="session")
def start_world(
    dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory, fake_models: FakeModels
) -> Callable[..., Any]:
    """Makes a studio with its own keys, and settings that differ."""

    @asynccontextmanager
    async def start(
        data_dir: Path | None = None, database_url: str = dsn, **settings: Any
    ) -> AsyncIterator[World]:
        chosen = Settings(
            database_url=database_url,
            redis_url=redis_url,
            data_dir=data_dir or tmp_path_factory.mktemp("studio"),
            allow_private_addresses=True,
            **settings,
        )
        app = create_app(chosen)
        office = TicketOffice(load_or_create_key_pair(chosen.keys_dir, TICKET_KEY))
        async with serving(app) as url:
            yield World(app, url, office, fake_models)

    return start


@pytest.fixture(scope="session")
async def world(start_world: Callable[..., Any]) -> AsyncIterator[World]:
    async with start_world() as started:
        yield started


@pytest.fixture
async def admin(world: World, tenant_id: str) -> AsyncIterator[Caller]:
    """An administrator of a fresh tenant."""
    caller = world.caller(tenant_id)
    yield caller
    await caller.http.aclose()
