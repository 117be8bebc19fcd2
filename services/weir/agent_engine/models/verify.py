"""Trying a model: does it answer, and does it call tools?"""

import asyncio
import time
from contextlib import aclosing

from msgspec.structs import replace

from weir.agent_engine.models.base import (
    Finish,
    ModelAccess,
    ModelClient,
    ModelError,
    Prompt,
    Sampling,
    ToolDefinition,
    UserMessage,
)
from weir.agent_engine.models.embeddings import Embeddings
from weir.agent_engine.models.providers import PROVIDERS
from weir.agent_engine.wire.models import Verification

SECONDS = 30
HELLO = Prompt(system="", messages=[UserMessage("Say hi.")], sampling=Sampling(max_tokens=256))
SUM = Prompt(
    system="",
    messages=[UserMessage("What is 1+1? Use the calculator tool.")],
    tools=[
        ToolDefinition(
            name="calculator",
            description="Works out an arithmetic expression.",
            parameters={
                "type": "object",
                "properties": {"expression": {"type": "string"}},
                "required": ["expression"],
            },
        )
    ],
    sampling=Sampling(max_tokens=1024),
)


async def verify_model(client: ModelClient, access: ModelAccess) -> Verification:
    """Asks the model twice at most. It has not answered when it took longer than 30 s."""
    access = replace(access, deadline=time.monotonic() + SECONDS)
    started = time.perf_counter()
    try:
        await _ask(client, access, HELLO)
    except ModelError as fault:
        return _report(access, started, error=str(fault))
    answered = time.perf_counter()
    tool_calling, error = await _try_tools(client, access)
    return _report(access, started, answered, tool_calling=tool_calling, error=error)


async def verify_embedder(embeddings: Embeddings, access: ModelAccess, dimension: int | None) -> Verification:
    """Embeds one word; such a model is asked for no tools."""
    started = time.perf_counter()
    try:
        await embeddings.embed(access, ["hi"], dimension=dimension)
    except ModelError as fault:
        return _report(access, started, error=str(fault))
    return _report(access, started, time.perf_counter(), error=None)


def unreachable(type: str, model_name: str, reason: str) -> Verification:
    """The report of a model that is not even asked."""
    return Verification(
        connectivity="error",
        tool_calling="skipped",
        response_time_ms=0,
        model_name=model_name,
        provider=type,
        error=reason,
    )


async def _try_tools(client: ModelClient, access: ModelAccess) -> tuple[str, str | None]:
    if PROVIDERS[access.type].knows_tools:
        return "skipped", None
    try:
        finish = await _ask(client, access, SUM)
    except ModelError as fault:
        return "not_detected", str(fault)
    return ("supported" if finish.calls else "not_detected"), None


async def _ask(client: ModelClient, access: ModelAccess, prompt: Prompt) -> Finish:
    try:
        async with asyncio.timeout(SECONDS), aclosing(client.stream(access, prompt)) as parts:
            async for part in parts:
                if isinstance(part, Finish):
                    return part
    except TimeoutError:
        raise ModelError(f"The model did not answer within {SECONDS} s") from None
    raise ModelError("The model's answer has no end")


def _report(
    access: ModelAccess,
    started: float,
    answered: float | None = None,
    *,
    tool_calling: str = "skipped",
    error: str | None,
) -> Verification:
    return Verification(
        connectivity="error" if answered is None else "ok",
        tool_calling=tool_calling,
        response_time_ms=round(((answered or time.perf_counter()) - started) * 1000),
        model_name=access.model_name,
        provider=access.type,
        error=error,
    )
