"""Our embeddings wire against the official SDK's types, and the looks that each vector gets."""

from typing import Any

import msgspec
import pytest
from openai.types import CreateEmbeddingResponse, Embedding
from openai.types.create_embedding_response import Usage
from openai.types.embedding_create_params import EmbeddingCreateParams
from pydantic import TypeAdapter

from weir.agent_engine.models.base import ModelAccess, ModelGarbled, ModelRefused
from weir.agent_engine.models.embeddings import (
    BATCH_CHARACTERS,
    BATCH_TEXTS,
    answer_of,
    batches_of,
    request_of,
    require_embedder,
)
from weir.agent_engine.models.providers import EMBEDDERS, PROVIDERS


def access(type: str, base_url: str = "https://example.com/v1", **more: Any) -> ModelAccess:
    return ModelAccess(type=type, model_name="m", base_url=base_url, **{"api_key": "key", **more})


def asked(model: ModelAccess, texts: list[str]) -> tuple[str, Any, Any]:
    question = request_of(model, texts)
    return question.url, question.headers, msgspec.json.decode(question.body)


@pytest.mark.parametrize("type", ["openai_compatible", "ollama", "openrouter", "mistral"])
def test_what_we_send_is_what_the_sdk_sends(type: str) -> None:
    url, headers, body = asked(access(type), ["a", "b"])
    assert url == "https://example.com/v1/embeddings"
    assert headers["authorization"] == "Bearer key"
    assert TypeAdapter(EmbeddingCreateParams).validate_python(body) == {"model": "m", "input": ["a", "b"]}


def test_what_the_sdk_reads_we_read_in_the_order_of_the_texts() -> None:
    items = [
        Embedding(embedding=[1.0, 2.0], index=1, object="embedding"),
        Embedding(embedding=[3.0, 4.0], index=0, object="embedding"),
    ]
    answer = CreateEmbeddingResponse(
        data=items, model="m", object="list", usage=Usage(prompt_tokens=1, total_tokens=1)
    )
    assert answer_of("openai_compatible", answer.model_dump_json().encode(), 2) == (
        [[3.0, 4.0], [1.0, 2.0]],
        1,
    )


def test_an_azure_deployment_is_asked_at_its_own_address_with_its_own_header() -> None:
    url, headers, body = asked(access("azure_openai", "https://me.openai.azure.com/"), ["a"])
    assert url == "https://me.openai.azure.com/openai/deployments/m/embeddings?api-version=2024-10-21"
    assert headers["api-key"] == "key" and "authorization" not in headers
    assert body == {"model": "m", "input": ["a"]}


def test_gemini_is_asked_for_all_texts_at_once() -> None:
    url, headers, body = asked(access("google", "https://example.com/v1beta"), ["a", "b"])
    assert url == "https://example.com/v1beta/models/m:batchEmbedContents"
    assert headers["x-goog-api-key"] == "key"
    assert body["requests"][1] == {"model": "models/m", "content": {"parts": [{"text": "b"}]}}
    content = b'{"embeddings":[{"values":[1,2]},{"values":[3,4]}]}'
    assert answer_of("google", content, 2) == ([[1.0, 2.0], [3.0, 4.0]], 0)


@pytest.mark.parametrize("type", sorted(set(PROVIDERS) - set(EMBEDDERS)))
def test_a_provider_that_does_not_embed_is_told_in_a_sentence(type: str) -> None:
    with pytest.raises(ModelRefused, match=f"{type} do not embed"):
        require_embedder(type)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"data": null}',
        b'{"data": [{"index": 0}]}',
        b'{"data": [{"index": 0, "embedding": ["x"]}]}',
        b'{"data": [{"index": 0, "embedding": "AACAPw=="}]}',
        b'{"data": [{"index": 0, "embedding": [NaN]}]}',
        b'{"data": [{"index": 7, "embedding": [1]}]}',
        b'{"data": []}',
        b'{"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1]}]}',
        b'{"data": ' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_garbage_is_no_embedding(content: bytes) -> None:
    with pytest.raises(ModelGarbled):
        answer_of("openai_compatible", content, 1)


def test_texts_go_in_requests_that_providers_take() -> None:
    texts = [f"{i}" for i in range(BATCH_TEXTS * 2 + 1)]
    batches = batches_of(texts)
    assert [len(batch) for batch in batches] == [BATCH_TEXTS, BATCH_TEXTS, 1]
    assert [text for batch in batches for text in batch] == texts
    long = ["x" * (BATCH_CHARACTERS // 2 + 1)] * 3
    assert [len(batch) for batch in batches_of(long)] == [1, 1, 1]
    assert msgspec.json.encode(batches_of([])) == b"[]"
