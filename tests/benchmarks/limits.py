"""What a limit costs: the same request counted by a rule and not, by turns."""

import statistics
import time

from tests.benchmarks.load import Connection
from tests.benchmarks.report import Report
from tests.benchmarks.standing import Standing

REQUESTS = 600
PATH = "/api/v1/models"
RULE = {
    "name": "bench",
    "key_header": "X-Bench",
    "default_tier": "all",
    "tiers": {"all": {"requests": 1_000_000, "window": "1h"}},
}


async def limits(standing: Standing, report: Report) -> None:
    """One client, one connection; each request without a rule's header is followed by one with it."""
    report.title(f"Rate limits: GET {PATH}, counted in Redis by a rule and not, {REQUESTS} times each")
    setting = "/api/v1/settings/rate_limits"
    standing.client.put(setting, json={"value": [RULE]}).raise_for_status()
    connection = Connection(standing.platform.url)
    taken: dict[str, list[float]] = {"not counted": [], "counted": []}
    for number in range(REQUESTS + 20):
        for name, more in (("not counted", {}), ("counted", {"X-Bench": "one"})):
            started = time.perf_counter()
            reply = await connection.ask("GET", PATH, standing.headers | more, b"")
            if reply.status != 200:
                raise RuntimeError(f"{PATH}: {reply.status}")
            # The first few only warm up.
            if number >= 20:
                taken[name].append(time.perf_counter() - started)
    await connection.close()
    standing.client.put(setting, json={"value": None}).raise_for_status()
    for name, seconds in taken.items():
        report.add(f"{name}: p50", f"{statistics.median(seconds) * 1000:.2f} ms")
    more_ms = (statistics.median(taken["counted"]) - statistics.median(taken["not counted"])) * 1000
    report.add("a counted request costs more by", f"{more_ms:.2f} ms", "≤ 1 ms", reached=more_ms <= 1)
