"""What a turn of 50 tokens costs in each of the model protocols: processor time of reading it, in this process."""

import asyncio
import resource
from contextlib import aclosing

from tests.benchmarks.model import TOKENS
from tests.benchmarks.report import Report
from tests.benchmarks.standing import Standing, fake_model

from weir.agent_engine.models.asking import Asker
from weir.agent_engine.models.base import Finish, ModelAccess, Prompt, UserMessage
from weir.agent_engine.models.client import WireClient
from weir_shared.egress import open_egress

TURNS = 2000
AT_ONCE = 16
GOAL_MILLISECONDS = 0.6
TYPES = {
    "openai_compatible": "chat completions",
    "anthropic": "Anthropic Messages",
    "google": "Gemini",
}
PROMPT = Prompt(system="Talk.", messages=[UserMessage("hello")])


async def wires(_: Standing | None, report: Report) -> None:
    report.title(f"Reading an answer of {TOKENS} tokens, {AT_ONCE} at once, by protocol")
    with fake_model() as url:
        async with open_egress(allow_private=True) as session:
            client = WireClient(Asker(session))
            for type, name in TYPES.items():
                access = ModelAccess(type=type, model_name="bench", base_url=f"{url}/v1", api_key="k")
                await _many(client, access, TURNS // 10)
                before = _processor_seconds()
                await _many(client, access, TURNS)
                spent = (_processor_seconds() - before) / TURNS * 1000
                report.add(
                    f"{name}: CPU per turn",
                    f"{spent:.2f} ms",
                    f"≤ {GOAL_MILLISECONDS} ms",
                    reached=spent <= GOAL_MILLISECONDS,
                )


async def _many(client: WireClient, access: ModelAccess, turns: int) -> None:
    async def some(count: int) -> None:
        for _ in range(count):
            await _turn(client, access)

    await asyncio.gather(*(some(turns // AT_ONCE) for _ in range(AT_ONCE)))


async def _turn(client: WireClient, access: ModelAccess) -> None:
    count = 0
    async with aclosing(client.stream(access, PROMPT)) as parts:
        async for part in parts:
            count += not isinstance(part, Finish)
    if count != TOKENS:
        raise RuntimeError(f"{access.type}: {count} parts instead of {TOKENS}")


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    import uvloop

    uvloop.run(wires(None, Report()))
