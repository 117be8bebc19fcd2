"""`make bench`: cold start, warm query, a million rows, turns. Names on the command line choose among them."""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.benchmarks import lake, peers, tpch, turns
from tests.benchmarks.report import Report
from tests.benchmarks.standing import Standing
from tests.starting import started

Benchmark = Callable[[Standing, Report], Awaitable[None]]

BENCHMARKS: dict[str, Benchmark] = {
    "cold": lake.cold_start,
    "warm": lake.warm_query,
    "rows": lake.million_rows,
    "turns": turns.turns,
}
# They install other programs and take minutes: only when they are named.
ON_DEMAND: dict[str, Benchmark] = {"tpch": tpch.tpch, "peers": peers.peers}


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
        asyncio.run(run(chosen, Standing(platform), Report()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
