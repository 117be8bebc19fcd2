"""What the wire of OpenAI's clients costs: the same turns by it and by the platform's own chat, in turns."""

import json
from statistics import median

from tests.benchmarks.model import TOKENS
from tests.benchmarks.report import Report
from tests.benchmarks.standing import Standing, fake_model
from tests.benchmarks.turns import CHAT, Question, furnish, load

CLIENTS = 32
TURNS = 600
ROUNDS = 3
ASKED = {"model": "bench", "messages": [{"role": "user", "content": "hello"}], "stream": True}
COMPLETION = Question(
    path="/v1/chat/completions",
    body=json.dumps(ASKED).encode(),
    first=b'{"content":"',
    end=b"data: [DONE]\n\n",
)


async def completions(standing: Standing, report: Report) -> None:
    """Turns a second and the engine's processor time a turn, by both wires through the gateway."""
    report.title(f"Turns of {TOKENS} tokens by /v1/chat/completions, beside the platform's own chat")
    rates: dict[str, list[float]] = {"chat": [], "completions": []}
    spent: dict[str, list[float]] = {"chat": [], "completions": []}
    failures = 0
    with fake_model() as model_url:
        furnish(standing, model_url)
        await load(standing.platform.url, standing.headers, clients=8, turns=100)
        for _ in range(ROUNDS):
            for name, question in (("chat", CHAT), ("completions", COMPLETION)):
                before = standing.cpu_seconds()
                seen = await load(
                    standing.platform.url, standing.headers, clients=CLIENTS, turns=TURNS, question=question
                )
                used = standing.cpu_seconds()["agent-engine"] - before["agent-engine"]
                rates[name].append(seen.rate)
                spent[name].append(used / TURNS * 1000)
                failures += seen.failures
    report.add("turns that failed", str(failures), "0", reached=failures == 0)
    for name, seen_rates in rates.items():
        report.add(f"{name}: turns/s with {CLIENTS} clients", f"{median(seen_rates):.0f}")
        report.add(f"{name}: CPU of the engine per turn", f"{median(spent[name]):.2f} ms")
    ratio = median(spent["completions"]) / median(spent["chat"])
    report.add("CPU per turn, completions over chat", f"{ratio:.2f} ×", "≤ 1.5 ×", reached=ratio <= 1.5)
