"""Texts as vectors: one client for the providers that embed, in batches, each vector looked at before it is handed on."""

import asyncio
import math
import time
from array import array
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from weir.agent_engine.models.asking import Asker, Question, question
from weir.agent_engine.models.base import (
    ModelAccess,
    ModelError,
    ModelGarbled,
    ModelRefused,
    ModelTimedOut,
)
from weir.agent_engine.models.providers import EMBEDDERS, PROVIDERS, azure_url, gemini_url, openai_url
from weir.agent_engine.models.usage import told_tokens

BATCH_TEXTS = 96
BATCH_CHARACTERS = 200_000
# As much of a text as is embedded; models read less of it still.
MAX_TEXT_CHARACTERS = 28_000
MAX_DIMENSION = 65_536
AT_ONCE = 4
SECONDS = 60.0
JSON = "application/json"
LARGEST_FLOAT32 = 3.4028234663852886e38


class Embedded(Struct, frozen=True):
    """Vectors in the order of their texts: float32, little-endian on every machine this runs on."""

    dimension: int
    vectors: "array[float]"
    """One after the other, `dimension` numbers each."""
    requests: int = 0
    tokens: int = 0
    """As the provider counts them; 0 when it tells nothing."""


class Embeddings:
    """Embeds texts over one shared HTTP session."""

    def __init__(self, asker: Asker, *, seconds: float = SECONDS) -> None:
        self._asker = asker
        self._seconds = seconds

    async def embed(
        self, access: ModelAccess, texts: Sequence[str], *, dimension: int | None = None
    ) -> Embedded:
        """A vector a text, all of one dimension: the one that is asked for, if any.

        Texts are cut after `MAX_TEXT_CHARACTERS`; none may be empty. Raises ModelError; cancelling closes
        the connections to the provider.
        """
        require_embedder(access.type)
        access = replace(access, deadline=time.monotonic() + self._seconds)
        batches = list(batches_of([text[:MAX_TEXT_CHARACTERS] for text in texts]))
        places = asyncio.Semaphore(AT_ONCE)

        async def embed_one(batch: list[str]) -> tuple[list[list[float]], int]:
            async with places:
                return await self._embed_batch(access, batch)

        try:
            async with asyncio.timeout(self._seconds), asyncio.TaskGroup() as group:
                tasks = [group.create_task(embed_one(batch)) for batch in batches]
        except TimeoutError:
            raise ModelTimedOut(f"The model did not embed the texts within {self._seconds:.0f} s") from None
        except BaseExceptionGroup as faults:
            raise _first(faults) from None
        answers = [task.result() for task in tasks]
        packed = _packed(
            [vector for vectors, _ in answers for vector in vectors], access.model_name, dimension
        )
        return replace(packed, requests=len(batches), tokens=sum(tokens for _, tokens in answers))

    async def _embed_batch(self, access: ModelAccess, texts: list[str]) -> tuple[list[list[float]], int]:
        async with aclosing(self._asker.read(access, request_of(access, texts))) as pieces:
            content = b"".join([piece async for piece in pieces])
        return answer_of(access.type, content, len(texts))


def require_embedder(type: str) -> None:
    """Raises ModelRefused for a type of models that this platform cannot embed with."""
    if type not in EMBEDDERS:
        raise ModelRefused(
            f"Models of the type {type} do not embed texts here; the types that do are {', '.join(EMBEDDERS)}"
        )


def batches_of(texts: Sequence[str]) -> list[list[str]]:
    """The texts in their order, in requests that providers take."""
    batches: list[list[str]] = []
    size = BATCH_CHARACTERS
    for text in texts:
        if size + len(text) > BATCH_CHARACTERS or len(batches[-1]) == BATCH_TEXTS:
            batches.append([])
            size = 0
        batches[-1].append(text)
        size += len(text)
    return batches


def request_of(access: ModelAccess, texts: list[str]) -> Question:
    """Where the provider is asked, with which headers, and for what."""
    key = access.api_key or PROVIDERS[access.type].key
    match access.type:
        case "google":
            url = gemini_url(access.base_url, access.model_name, "batchEmbedContents")
            name = f"models/{access.model_name.removeprefix('models/')}"
            wanted = [{"model": name, "content": {"parts": [{"text": text}]}} for text in texts]
            return question(url, {"requests": wanted}, JSON, x_goog_api_key=key)
        case "azure_openai":
            url = azure_url(access.base_url, access.model_name, access.api_version, "/embeddings")
            # Only the newer interface reads the model here; the older one has it in the address.
            return question(url, {"model": access.model_name, "input": texts}, JSON, api_key=key)
        case _:
            url = openai_url(access.type, access.base_url, "/embeddings")
            body = {"model": access.model_name, "input": texts}
            own = f"Bearer {key}" if key else None
            return question(url, body, JSON, authorization=own)


class _Item(Struct, frozen=True):
    embedding: list[float]
    index: int | None = None


class _OpenAIAnswer(Struct, frozen=True):
    data: list[_Item]
    usage: Any = None


class _Values(Struct, frozen=True):
    values: list[float]


class _GeminiAnswer(Struct, frozen=True):
    embeddings: list[_Values]


def answer_of(type: str, content: bytes, count: int) -> tuple[list[list[float]], int]:
    """The vectors of an answer in the order of their texts, and the tokens that it tells. Raises ModelGarbled."""
    tokens = 0
    try:
        if type == "google":
            vectors = [item.values for item in msgspec.json.decode(content, type=_GeminiAnswer).embeddings]
        else:
            answer = msgspec.json.decode(content, type=_OpenAIAnswer)
            vectors, tokens = _in_order(answer.data), told_tokens(answer.usage)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ModelGarbled("The model's answer is not one of embeddings") from None
    if len(vectors) != count:
        raise ModelGarbled(f"The model embedded {len(vectors)} of {count} texts")
    return vectors, tokens


def _in_order(items: list[_Item]) -> list[list[float]]:
    """By their indices, where the provider tells them; it may answer in any order."""
    if any(item.index is None for item in items):
        return [item.embedding for item in items]
    found = sorted(items, key=lambda item: item.index or 0)
    if [item.index for item in found] != list(range(len(found))):
        raise ModelGarbled("The model's embeddings belong to no texts that it was asked for")
    return [item.embedding for item in found]


def _packed(vectors: list[list[float]], model: str, dimension: int | None) -> Embedded:
    """Raises ModelGarbled for vectors of different or other dimensions, and for numbers that are none."""
    sizes = {len(vector) for vector in vectors}
    wanted = dimension or max(sizes, default=0)
    if sizes - {wanted}:
        told = f"is configured with {dimension}" if dimension else "began with another number"
        raise ModelGarbled(
            f"The model's vectors have {min(sizes - {wanted})} dimensions; {model[:100]} {told}"
        )
    if vectors and not 1 <= wanted <= MAX_DIMENSION:
        raise ModelGarbled(
            f"The model's vectors have {wanted} dimensions; between 1 and {MAX_DIMENSION} are usable"
        )
    packed = array("f")
    for vector in vectors:
        if not all(math.isfinite(number) and abs(number) <= LARGEST_FLOAT32 for number in vector):
            raise ModelGarbled("The model's vectors hold what is no number")
        packed.extend(vector)
    return Embedded(wanted, packed)


def _first(faults: BaseExceptionGroup[BaseException]) -> BaseException:
    """What is told of several batches that failed: the first of what a model did, else what is no model's fault."""
    for fault in faults.exceptions:
        if isinstance(fault, ModelError):
            return fault
    return faults.exceptions[0]
