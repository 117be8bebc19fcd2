"""What tests of the model wires share: fake providers and the client that asks them."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from msgspec import Struct
from tests.fakes.provider_server import FakeProviders, serve_fake_providers

from weir.agent_engine.models.asking import Asker
from weir.agent_engine.models.base import (
    Finish,
    ModelAccess,
    Part,
    Prompt,
    TextPart,
    ThinkingPart,
    UserMessage,
)
from weir.agent_engine.models.client import WireClient
from weir_shared.egress import open_egress

HELLO = Prompt(system="Help.", messages=[UserMessage("hi")])
KEY = "key-of-the-tenant-123"


class Heard(Struct, frozen=True):
    """A whole answer."""

    parts: list[Part]

    @property
    def text(self) -> str:
        return "".join(part.content for part in self.parts if isinstance(part, TextPart))

    @property
    def thought(self) -> str:
        return "".join(part.content for part in self.parts if isinstance(part, ThinkingPart))

    @property
    def finish(self) -> Finish:
        [found] = [part for part in self.parts if isinstance(part, Finish)]
        assert self.parts[-1] is found
        return found


def access_to(type: str, base_url: str, **fields: Any) -> ModelAccess:
    return ModelAccess(**{"type": type, "model_name": "m", "base_url": base_url, "api_key": KEY, **fields})


async def hear(client: WireClient, access: ModelAccess, prompt: Prompt = HELLO) -> Heard:
    async with aclosing(client.stream(access, prompt)) as parts:
        return Heard([part async for part in parts])


@pytest.fixture(scope="session")
async def providers() -> AsyncIterator[FakeProviders]:
    async with serve_fake_providers() as fake:
        yield fake


@pytest.fixture(scope="session")
async def client() -> AsyncIterator[WireClient]:
    async with open_egress(allow_private=True) as session:
        yield WireClient(Asker(session, silence_seconds=0.5))
