"""A database as a source: an aggregate that its server answers, beside the same over a scan."""

import asyncio
import json
import statistics
from urllib.parse import unquote, urlsplit

import asyncpg
from tests.benchmarks.load import Connection
from tests.benchmarks.report import Report
from tests.benchmarks.standing import LAKE, Standing, timed

ROWS = 1_000_000
ROUNDS = 5
NAME = "bench_source"
QUERY = "select shop, count(*) as n, sum(price) as p, min(day) as d from {} group by shop order by shop"


async def sources(standing: Standing, report: Report) -> None:
    """A million rows of PostgreSQL in a hundred groups, with whole queries and without."""
    report.title(f"Sources: an aggregate over {ROWS:,} rows of PostgreSQL, {ROUNDS} times")
    ledger = standing.environment["WEIR_DATABASE_URL"]
    server = await asyncpg.connect(ledger)
    await server.execute(f"drop database if exists {NAME} with (force)")
    await server.execute(f"create database {NAME}")
    try:
        await _fill(ledger)
        _add(standing, ledger)
        pushed, scanned = await _ask(standing, "bench_pushed"), await _ask(standing, "bench_scanned")
        if pushed[0] != scanned[0]:
            raise RuntimeError("the two answers differ")
        report.add("asked whole (median)", f"{pushed[1] * 1000:.0f} ms")
        report.add("by a scan (median)", f"{scanned[1] * 1000:.0f} ms")
        ratio = scanned[1] / pushed[1]
        report.add("the scan takes", f"{ratio:.1f} × as long", "≥ 2 ×", reached=ratio >= 2)
    finally:
        standing.client.patch(f"{LAKE}/config", json={"removeDatasets": ["bench_pushed", "bench_scanned"]})
        await server.execute(f"drop database if exists {NAME} with (force)")
        await server.close()


async def _fill(ledger: str) -> None:
    connection = await asyncpg.connect(ledger, database=NAME)
    await connection.execute(
        f"""
        create table sales as
        select i as id, 'shop ' || i % 100 as shop, (i % 10000 / 100.0)::numeric(9, 2) as price,
            date '2024-01-01' + i % 365 as day
        from generate_series(1, {ROWS}) i
        """
    )
    await connection.execute("analyze sales")
    await connection.close()


def _add(standing: Standing, ledger: str) -> None:
    url = urlsplit(ledger)
    params = {
        "pg_host": url.hostname or "127.0.0.1",
        "pg_port": str(url.port or 5432),
        "pg_db": NAME,
        "pg_user": unquote(url.username or ""),
        "pg_pass": unquote(url.password or ""),
        "pg_sslmode": "disable",
    }
    body = {
        "addDatasets": [
            {"name": "bench_pushed", "from": "postgres:public.sales", "params": params},
            {
                "name": "bench_scanned",
                "from": "postgres:public.sales",
                "params": {**params, "query_federation": "disabled"},
            },
        ]
    }
    standing.client.patch(f"{LAKE}/config", json=body).raise_for_status()


async def _ask(standing: Standing, table: str) -> tuple[object, float]:
    """The rows, and the median of the seconds that they took."""
    body = {"query": QUERY.format(table)}
    while (answer := standing.client.post(f"{LAKE}/sql", json=body)).status_code == 400:
        # The runtime has not been told of it yet.
        await asyncio.sleep(0.2)
    rows = answer.raise_for_status().json()["rows"]
    connection = Connection(standing.platform.url)
    headers = standing.headers | {"Cache-Control": "no-cache"}
    taken = await timed(connection, f"{LAKE}/sql", headers, json.dumps(body).encode(), ROUNDS)
    await connection.close()
    return rows, statistics.median(taken)
