"""The gateway before a running studio, and OpenAI's own clients as users of a tenant have them."""

import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import jwt
import openai
import pytest
from msgspec import Struct
from tests.integration.agent_engine.conftest import Caller, World
from tests.serving import served

from weir.gateway.app import create_app
from weir_shared.auth.keys import JWT_KEY, load_or_create_key_pair
from weir_shared.settings import Settings


class Door(Struct, frozen=True):
    """A served gateway, with the studio and the fake models behind it."""

    url: str
    world: World
    settings: Settings

    def session(self, tenant_id: str, scope: str = "admin", subject: str = "local-admin") -> str:
        """A session (JWT) of a tenant's user."""
        private = load_or_create_key_pair(self.settings.keys_dir, JWT_KEY).private
        claims = {"sub": subject, "tenant_id": tenant_id, "scope": scope, "exp": int(time.time()) + 600}
        return jwt.encode(claims, private, "EdDSA")

    async def token(self, tenant_id: str, *scopes: str) -> str:
        """An API token, minted at the gateway."""
        async with self.http(self.session(tenant_id)) as admin:
            body = {"name": f"t-{uuid.uuid4().hex}", "scopes": list(scopes)}
            made = await admin.post("/api/v1/auth/tokens", json=body)
        assert made.status_code == 201, made.text
        return made.json()["token"]

    def http(self, credential: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30)

    def openai(self, credential: str, **options: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key=credential, **({"max_retries": 0} | options)
        )


class User(Struct, frozen=True):
    """An administrator of a fresh tenant, by OpenAI's client, by plain HTTP and by the engine's own API."""

    door: Door
    tenant_id: str
    credential: str
    client: openai.AsyncOpenAI
    http: httpx.AsyncClient
    caller: Caller

    async def ask(self, model: str, text: str = "hi", **options: Any) -> Any:
        messages = options.pop("messages", [{"role": "user", "content": text}])
        return await self.client.chat.completions.create(model=model, messages=messages, **options)

    async def post(self, body: Any, **options: Any) -> httpx.Response:
        return await self.http.post("/v1/chat/completions", json=body, **options)


@pytest.fixture(scope="session")
async def door(
    start_world: Callable[..., Any], dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Door]:
    data_dir = tmp_path_factory.mktemp("door")
    async with start_world(data_dir) as world:
        settings = Settings(data_dir=data_dir, database_url=dsn, redis_url=redis_url, engine_url=world.url)
        async with served(create_app(settings)) as url:
            yield Door(url, world, settings)


@pytest.fixture
async def user(door: Door, tenant_id: str) -> AsyncIterator[User]:
    credential, caller = door.session(tenant_id), door.world.caller(tenant_id)
    async with door.openai(credential) as client, door.http(credential) as http:
        yield User(door, tenant_id, credential, client, http, caller)
    await caller.http.aclose()
