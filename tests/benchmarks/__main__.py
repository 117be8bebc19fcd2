"""`make bench`: every figure of the lake and of the engine. Names on the command line choose among them."""

import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from tests.benchmarks import (
    catalogue,
    completions,
    events,
    knowledge,
    lake,
    life,
    limits,
    mcp,
    mcp_door,
    peers,
    peers_agents,
    refresh,
    semantic,
    sources,
    tasks,
    tpch,
    turns,
    uploads,
    wires,
)
from tests.benchmarks.report import Report
from tests.benchmarks.standing import Standing
from tests.starting import started

Benchmark = Callable[[Standing, Report], Awaitable[None]]

BENCHMARKS: dict[str, Benchmark] = {
    "cold": lake.cold_start,
    "warm": lake.warm_query,
    "rows": lake.million_rows,
    "catalogue": catalogue.catalogue,
    "refresh": refresh.refresh,
    "knowledge": knowledge.knowledge,
    "semantic": semantic.semantic,
    "events": events.events,
    "uploads": uploads.uploads,
    "turns": turns.turns,
    "tasks": tasks.tasks,
    "sources": sources.sources,
    "streams": turns.streams,
    "completions": completions.completions,
    "wires": wires.wires,
    "limits": limits.limits,
    "life": life.life,
    "mcp": mcp.mcp,
    "tools": mcp_door.tools,
}
# They install other programs and take minutes: only when they are named.
ON_DEMAND: dict[str, Benchmark] = {"tpch": tpch.tpch, "peers": peers.peers, "agents": peers_agents.agents}


async def run(names: list[str], standing: Standing, report: Report) -> None:
    for name in names:
        await (BENCHMARKS | ON_DEMAND)[name](standing, report)


def main() -> int:
    chosen = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in chosen if name not in BENCHMARKS | ON_DEMAND]
    if unknown:
        print(
            f"unknown: {', '.join(unknown)}; there are {', '.join(BENCHMARKS | ON_DEMAND)}", file=sys.stderr
        )
        return 2
    with tempfile.TemporaryDirectory() as work, started(Path(work)) as platform:
        uvloop.run(run(chosen, Standing(platform), Report()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
