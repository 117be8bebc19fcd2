"""The engine's figures: turns of 50 tokens with a model that takes no time, everything recorded."""

import json

from tests.benchmarks.load import Connection, drive
from tests.benchmarks.model import TOKENS
from tests.benchmarks.report import Report
from tests.benchmarks.standing import JSON, Standing, fake_model

CLIENTS = 64
TURNS = 2000
ALONE = 200


async def turns(standing: Standing, report: Report) -> None:
    report.title(f"Turns of {TOKENS} tokens, a model of zero think time, every turn in Postgres")
    with fake_model() as model_url:
        path = _furnish(standing, model_url)
        message = json.dumps({"message": "hello"}).encode()
        raw_body = json.dumps({"model": "bench", "messages": [], "stream": True}).encode()
        raw = await drive(
            model_url, "/v1/chat/completions", JSON, raw_body, clients=1, requests=ALONE, expect=b"[DONE]"
        )
        doors = {
            "engine": (standing.engine_url, standing.ticket("agent-engine")),
            "gateway": (standing.platform.url, standing.headers),
        }
        for name, (where, headers) in doors.items():
            await drive(where, path, headers, message, clients=8, requests=100, expect=b"event: done")
            one = await drive(where, path, headers, message, clients=1, requests=ALONE, expect=b"event: done")
            many = await drive(
                where, path, headers, message, clients=CLIENTS, requests=TURNS, expect=b"event: done"
            )
            failures = one.failures + many.failures
            report.add(f"{name}: turns that failed", str(failures), "0", reached=failures == 0)
            goal = name == "gateway"
            report.add(
                f"{name}: turns/s with {CLIENTS} clients",
                f"{many.rate:.0f}",
                "≥ 100" if goal else "",
                reached=many.rate >= 100 if goal else None,
            )
            added = (await _first_token(where, path, headers, message) - raw.first_p50) * 1000
            report.add(
                f"{name}: first token above the raw model, 1 client (p50)",
                f"{added:.2f} ms",
                "≤ 15 ms" if goal else "",
                reached=added <= 15 if goal else None,
            )
            report.add(f"{name}: whole turn, 1 client (p50)", f"{one.p50 * 1000:.2f} ms")


def _furnish(standing: Standing, model_url: str) -> str:
    """A model, an agent and a schema; the path at which they chat."""
    body = {"type": "openai_compatible", "model_name": "bench", "base_url": f"{model_url}/v1"}
    wanted = {
        "/api/v1/models": {"name": "bench", **body},
        "/api/v1/agents": {"name": "bench", "model": "bench", "system": "Talk."},
        "/api/v1/schemas": {"name": "bench", "entry_agent_id": "bench", "chat_enabled": True},
    }
    for path, item in wanted.items():
        standing.client.post(path, json=item).raise_for_status()
    return "/api/v1/schemas/bench/chat"


async def _first_token(where: str, path: str, headers: dict[str, str], message: bytes) -> float:
    """Median seconds until the first piece of text; the opening comment does not count."""
    taken: list[float] = []
    for _ in range(ALONE):
        connection = Connection(where)
        taken.append(await connection.until(path, headers, message, b"message_delta"))
        await connection.close()
    return sorted(taken)[len(taken) // 2]
