"""Many small reads of a large file stay far from the limit at which the host ends a runtime."""

import asyncio

import pyarrow.parquet as pq
from tests.benchmarks.lake import mixed_table

from .conftest import MEBIBYTE, Lakes, dataset

CLIENTS, QUERIES = 16, 240


async def test_many_clients_that_read_a_hundred_rows_of_a_million_keep_the_runtime_within_its_memory(
    lakes: Lakes,
) -> None:
    path = lakes.imports / "mixed.parquet"
    pq.write_table(mixed_table(), path, row_group_size=1_000_000)
    size = path.stat().st_size
    lake = await lakes.start(memory=2048 * MEBIBYTE)
    await lake.configure(dataset("mixed", path, "parquet"))
    await lake.tables()
    peak, asked = 0, iter(range(QUERIES))

    async def client() -> None:
        nonlocal peak
        for _ in asked:
            status, body = await lake.sql("select * from mixed limit 100", useCache=False)
            assert (status, len(body["rows"])) == (200, 100)
            peak = max(peak, lake.resident_bytes())

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    print(
        f"{QUERIES} reads of {size / MEBIBYTE:.0f} MiB by {CLIENTS} clients: peak {peak / MEBIBYTE:.0f} MiB"
    )
    assert not [event for event in lakes.host.exits if event["pid"] == lake.pid]
    # Twenty MiB a read, kept by every reader ten times over, was 2.2 GiB.
    assert peak < 1536 * MEBIBYTE
