"""Texts embedded by a tenant's own model: which one, how it fails, and what nobody sees."""

import asyncio
import struct
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.fakes.embedding_server import DIMENSION, Failure, FakeEmbedder, serve_fake_embedder, vector_of
from tests.integration.agent_engine.conftest import Caller, World

from weir.agent_engine.models import asking
from weir.agent_engine.models.embeddings import Embeddings
from weir_shared.db.pool import Database

KEY = "sk-embeddings-are-mine"


@pytest.fixture
async def embedder() -> AsyncIterator[FakeEmbedder]:
    async with serve_fake_embedder() as fake:
        yield fake


@pytest.fixture
async def other(world: World, database: Database) -> AsyncIterator[Caller]:
    """An administrator of another tenant."""
    other_id = str(uuid.uuid4())
    async with database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) values ($1)", other_id)
    caller = world.caller(other_id)
    yield caller
    await caller.http.aclose()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FAULT_PAUSE_SECONDS", 0.01)


async def configure(admin: Caller, embedder: FakeEmbedder, **fields: Any) -> dict[str, Any]:
    body = {
        "name": f"e-{uuid.uuid4().hex[:8]}",
        "type": "openai_compatible",
        "model_name": "fake-embedder",
        "kind": "embedding",
        "base_url": embedder.base_url,
        "api_key": KEY,
    }
    return await admin.ask(201, "POST", "/models", body | fields)


async def embed(admin: Caller, *texts: str, model: str | None = None) -> httpx.Response:
    body = {"texts": list(texts)} | ({"model": model} if model else {})
    return await admin.http.post("/internal/embeddings", json=body)


def vectors(response: httpx.Response) -> list[list[float]]:
    assert response.status_code == 200, response.text
    size = int(response.headers["x-weir-dimension"])
    numbers = struct.unpack(f"<{len(response.content) // 4}f", response.content)
    return [list(numbers[i : i + size]) for i in range(0, len(numbers), size)]


async def test_texts_become_vectors_in_their_order(admin: Caller, embedder: FakeEmbedder) -> None:
    made = await configure(admin, embedder, embedding_dim=DIMENSION)
    texts = [f"cat {i} rain" + " dog" * (i % 5) for i in range(250)]
    response = await embed(admin, *texts)
    assert vectors(response) == [vector_of(text) for text in texts]
    assert response.headers["x-weir-model"] == made["name"]
    assert max(len(request["input"]) for request in embedder.requests) <= 96
    assert embedder.headers[0]["authorization"] == f"Bearer {KEY}"


async def test_gemini_and_azure_embed_too(admin: Caller, embedder: FakeEmbedder) -> None:
    gemini = await configure(admin, embedder, type="google", base_url=f"{embedder.root}/v1beta")
    assert vectors(await embed(admin, "cat", model=gemini["name"])) == [vector_of("cat")]
    azure = await configure(admin, embedder, type="azure_openai", base_url=embedder.root)
    assert vectors(await embed(admin, "rain", model=azure["name"])) == [vector_of("rain")]
    assert [path.split("?")[0] for path in embedder.paths] == [
        "/v1beta/models/fake-embedder:batchEmbedContents",
        "/openai/deployments/fake-embedder/embeddings",
    ]


async def test_without_a_name_the_default_model_is_meant_or_the_only_one(
    admin: Caller, embedder: FakeEmbedder
) -> None:
    refusal = await embed(admin, "cat")
    assert (refusal.status_code, refusal.json()["error"]) == (400, "invalid_request")
    first = await configure(admin, embedder)
    assert (await embed(admin, "cat")).headers["x-weir-model"] == first["name"]
    second = await configure(admin, embedder)
    refusal = await embed(admin, "cat")
    assert (refusal.status_code, refusal.json()["error"]) == (400, "invalid_request")
    assert first["name"] in refusal.json()["message"] and second["name"] in refusal.json()["message"]
    await admin.ask(200, "PUT", f"/models/{second['name']}", {"is_default": True})
    assert (await embed(admin, "cat")).headers["x-weir-model"] == second["name"]


async def test_a_default_to_embed_with_leaves_the_default_to_chat_with(
    admin: Caller, embedder: FakeEmbedder
) -> None:
    chat = await configure(admin, embedder, kind="chat")
    await configure(admin, embedder, is_default=True)
    assert (await admin.ask(200, "GET", f"/models/{chat['name']}"))["is_default"] is True
    refusal = await admin.ask(400, "PUT", f"/models/{chat['name']}", {"kind": "embedding"})
    assert "default" in refusal["message"]


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure(status=401), "model_unauthorized"),
        (Failure(status=404), "model_not_found"),
        (Failure(status=429), "model_rate_limited"),
        (Failure(status=429, headers={"retry-after": "3600"}), "model_rate_limited"),
        (Failure(status=400), "model_refused"),
        (Failure(status=302, headers={"location": "http://127.0.0.1:1/"}), "model_refused"),
        (Failure(status=500), "model_unavailable"),
        (Failure(raw=b"<html>"), "model_garbled"),
        (Failure(dimension=3), "model_garbled"),
        (Failure(numbers="[NaN,1,1,1]"), "model_garbled"),
        (Failure(numbers="[1e300,1,1,1]"), "model_garbled"),
        (Failure(numbers="[]"), "model_garbled"),
    ],
)
async def test_a_model_that_fails_is_told_in_a_sentence_and_no_secret_with_it(
    admin: Caller, embedder: FakeEmbedder, failure: Failure, code: str
) -> None:
    made = await configure(admin, embedder, embedding_dim=DIMENSION)
    embedder.always = failure
    response = await embed(admin, "cat")
    assert (response.status_code, response.json()["error"]) == (502, code)
    assert made["name"] in response.json()["message"]
    assert KEY not in response.text and "sk-secret" not in response.text and "127.0.0.1" not in response.text


async def test_a_passing_fault_is_tried_again(admin: Caller, embedder: FakeEmbedder) -> None:
    await configure(admin, embedder)
    embedder.failures = [Failure(status=429), Failure(status=503)]
    assert vectors(await embed(admin, "cat")) == [vector_of("cat")]
    assert len(embedder.requests) == 3


async def test_a_model_that_hangs_is_given_up_and_cut_off(
    world: World, admin: Caller, embedder: FakeEmbedder
) -> None:
    await configure(admin, embedder)
    access = await _access(world, admin)
    embedder.always = Failure(hangs=True)
    patient = world.app.state.studio.embeddings
    hurried = Embeddings(patient._asker, seconds=0.3)
    with pytest.raises(asking.ModelTimedOut):
        await hurried.embed(access, ["cat"])
    await asyncio.wait_for(embedder.cut_off.wait(), 5)


async def _access(world: World, admin: Caller) -> Any:
    models = world.app.state.studio.models
    row = await models.find_embedder(admin.principal.tenant_id, None)
    return await models.access(admin.principal.tenant_id, row)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"texts": []}, 400),
        ({"texts": [" "]}, 400),
        ({"texts": "cat"}, 400),
        ({"texts": ["cat"], "model": "nobody"}, 404),
        ({"texts": ["cat"], "model": "x\0y"}, 404),
        ({"texts": ["cat"], "more": 1}, 400),
        ({}, 400),
    ],
)
async def test_what_cannot_be_embedded_is_refused(
    admin: Caller, embedder: FakeEmbedder, body: dict[str, Any], status: int
) -> None:
    await configure(admin, embedder)
    assert (await admin.http.post("/internal/embeddings", json=body)).status_code == status
    assert not embedder.requests


async def test_a_chat_model_and_another_tenants_model_embed_nothing(
    world: World, admin: Caller, embedder: FakeEmbedder, other: Caller
) -> None:
    chat = await configure(admin, embedder, kind="chat")
    mine = await configure(admin, embedder)
    refusal = await embed(admin, "cat", model=chat["name"])
    assert refusal.status_code == 400 and "kind embedding" in refusal.json()["message"]
    assert (await embed(other, "cat", model=mine["name"])).status_code == 404
    assert (await embed(other, "cat")).status_code == 400
    assert (
        await admin.http.post("/internal/embeddings", json={}, headers={"x-weir-ticket": "x"})
    ).status_code == 401


async def test_verifying_an_embedding_model_embeds(admin: Caller, embedder: FakeEmbedder) -> None:
    made = await configure(admin, embedder, embedding_dim=DIMENSION)
    report = await admin.ask(200, "POST", f"/models/{made['name']}/verify")
    assert (report["connectivity"], report["tool_calling"], report["error"]) == ("ok", "skipped", None)
    embedder.always = Failure(dimension=7)
    report = await admin.ask(200, "POST", f"/models/{made['name']}/verify")
    assert report["connectivity"] == "error" and "7 dimensions" in report["error"]
    assert embedder.paths[0] == "/v1/embeddings"
