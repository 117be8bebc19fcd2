"""A gateway that is served for real, and stand-ins for the two rooms behind it."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from tests.serving import free_port, served

from weir.gateway.app import create_app
from weir_shared.auth.keys import TICKET_KEY, load_or_create_key_pair
from weir_shared.auth.principal import Principal
from weir_shared.auth.tickets import TicketInspector
from weir_shared.settings import Settings


@dataclass
class StandInRoom:
    """A stand-in for a room: notes what it was asked, as whom, and answers by the path."""

    audience: Any
    keys_dir: Path
    asked: list[dict[str, Any]] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        path = scope["path"]
        if path == "/metrics":
            text = b"# HELP weir_up_to Demo\n# TYPE weir_up_to gauge\nweir_up_to 1.0\n"
            await answer(send, 200, text, "text/plain")
            return
        if path == "/schema/openapi.json":
            await answer(send, 200, json.dumps(_document(self.audience)).encode())
            return
        principal = self._inspect(scope)
        self.asked.append(
            {"path": path, "raw": scope["raw_path"], "headers": scope["headers"], "as": principal}
        )
        await self._act(path, scope, receive, send)

    async def _act(self, path: str, scope: Any, receive: Any, send: Any) -> None:
        if path == "/internal/agents-count":
            await answer(send, 200, b'{"agents_count": 3}')
        elif path.endswith("/endless"):
            await self._endless(receive, send)
        elif path.endswith("/silent"):
            await asyncio.sleep(30)
        elif path.endswith("/nothing"):
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        elif path.endswith("/cut"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise ConnectionError("a room that dies in the middle")
        else:
            body = await _whole(receive)
            self.asked[-1]["body"] = body
            await answer(send, 200, json.dumps({"path": path, "size": len(body)}).encode())

    async def _endless(self, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def talk() -> None:
            while True:
                await send({"type": "http.response.body", "body": b": beat\n\n", "more_body": True})
                await asyncio.sleep(0.02)

        talking = asyncio.create_task(talk())
        while (await receive())["type"] != "http.disconnect":
            pass
        talking.cancel()
        self.left.set()

    def _inspect(self, scope: Any) -> Principal:
        key = load_or_create_key_pair(self.keys_dir, TICKET_KEY).public
        ticket = dict(scope["headers"])[b"x-weir-ticket"].decode()
        return TicketInspector(key, self.audience).inspect(ticket)


@dataclass
class Door:
    """A served gateway and what stands behind it."""

    url: str
    settings: Settings
    lake: StandInRoom
    engine: StandInRoom

    def client(self, **headers: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=20)

    async def session(self) -> dict[str, str]:
        async with self.client() as client:
            opened = await client.post("/api/v1/auth/local-session")
        return {"Authorization": f"Bearer {opened.json()['access_token']}"}


@pytest.fixture(scope="session")
async def door(dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    data_dir = tmp_path_factory.mktemp("gateway")
    lake = StandInRoom("context-lake", data_dir / "keys")
    engine = StandInRoom("agent-engine", data_dir / "keys")
    async with served(lake) as lake_url, served(engine) as engine_url:
        settings = Settings(
            data_dir=data_dir,
            database_url=dsn,
            redis_url=redis_url,
            lake_url=lake_url,
            engine_url=engine_url,
            worker_url=f"http://127.0.0.1:{free_port()}",
            bootstrap_admin_token="bb_" + "c" * 64,
            # Whoever asks, the gateways and the rooms are one process here, and slow.
            requests_at_once=8192,
        )
        async with served(create_app(settings)) as url:
            yield Door(url, settings, lake, engine)


@pytest.fixture
def settings_of(door: Door) -> Any:
    """The served gateway's settings with some of them changed."""
    return lambda **changes: replace(door.settings, **changes)


async def answer(send: Any, status: int, body: bytes, media_type: str = "application/json") -> None:
    headers = [(b"content-type", media_type.encode()), (b"x-weir-route", b"/stand-in/{name}")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _whole(receive: Any) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def _document(audience: str) -> dict[str, Any]:
    schema = {"type": "object", "description": audience}
    return {"paths": {f"/of-{audience}": {"get": {}}}, "components": {"schemas": {"Error": schema}}}
