"""The figures of a runtime's life: storms, waking, sleeping tenants, many awake at once, memory at rest."""

import asyncio
import json
import os
import statistics
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tests.benchmarks.lake import MEBIBYTE, sql
from tests.benchmarks.load import Connection
from tests.benchmarks.report import Report
from tests.benchmarks.standing import JSON, LAKE, Standing, milliseconds, timed

from weir_shared.auth.principal import Principal
from weir_shared.auth.tickets import HEADER
from weir_shared.db.pool import Database, open_database

SLEEPERS = 1000
AWAKE = 20
DATASETS = 20
REST_SECONDS = 10


async def life(standing: Standing, report: Report) -> None:
    database = await open_database(standing.environment["WEIR_DATABASE_URL"], size=2)
    try:
        await _storm(standing, report, database)
        await _waking(standing, report, database)
        await _idle_memory(standing, report, database)
        await _many_awake(standing, report, database)
        await _sleepers(standing, report, database)
    finally:
        await database.close()


async def _storm(standing: Standing, report: Report, database: Database) -> None:
    report.title("A storm: 50 cold queries of one tenant at once")
    [tenant] = await _tenants(database, 1)
    headers = _headers(standing, tenant)
    before = standing.metric("weir_lake_vm_boot_seconds_count")

    async def ask(number: int) -> tuple[float, bool]:
        connection = Connection(standing.lake_url)
        started = time.perf_counter()
        status, body = await _ask(connection, headers, sql(f"SELECT {number} AS n"))
        await connection.close()
        return time.perf_counter() - started, status == 200 and body["rows"] == [{"n": number}]

    answers = await asyncio.gather(*(ask(number) for number in range(50)))
    boots = standing.metric("weir_lake_vm_boot_seconds_count") - before
    right = sum(is_right for _, is_right in answers)
    report.add("boots", f"{boots:.0f}", "1", reached=boots == 1)
    report.add("right answers", f"{right}", "50", reached=right == 50)
    report.add("the last answer after", f"{max(taken for taken, _ in answers):.3f} s")


async def _waking(standing: Standing, report: Report, database: Database) -> None:
    report.title(
        f"Waking: a lake of {DATASETS} datasets that sleeps, until its first row (7 times, through the gateway)"
    )
    folder = standing.platform.data_dir / "imports" / "life"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(DATASETS):
        name = f"life_{number}"
        path = folder / f"{name}.parquet"
        pq.write_table(pa.table({"id": list(range(1000)), "name": [f"row {n}" for n in range(1000)]}), path)
        standing.client.post(
            f"{LAKE}/datasets", json={"name": name, "from": f"file:{path}"}
        ).raise_for_status()
    query = sql("SELECT id, name FROM life_7 ORDER BY id LIMIT 1")
    standing.client.post(f"{LAKE}/sql", content=query).raise_for_status()
    taken: list[float] = []
    for _ in range(7):
        standing.client.post(f"{LAKE}/stop", params={"wait": 60}).raise_for_status()
        connection = Connection(standing.platform.url)
        taken += await timed(connection, f"{LAKE}/sql", standing.headers, query, 1)
        await connection.close()
    median = statistics.median(taken)
    report.add("first row (median)", f"{median:.3f} s", "≤ 0.6 s", reached=median <= 0.6)
    report.add("first row (worst)", f"{max(taken):.3f} s")
    for number in range(DATASETS):
        standing.client.delete(f"{LAKE}/datasets/life_{number}").raise_for_status()


async def _idle_memory(standing: Standing, report: Report, database: Database) -> None:
    report.title("Idle runtimes, by the kernel's smaps_rollup: one that has said 1, one that has read a file")
    [tenant] = await _tenants(database, 1)
    connection = Connection(standing.lake_url)
    await _ask(connection, _headers(standing, tenant), sql("SELECT 1 AS one"))
    await connection.close()
    standing.client.post(f"{LAKE}/sql", content=sql("SELECT count(*), avg(distance) FROM flights"))
    await asyncio.sleep(2)
    for own, resident in sorted(map(_memory, _runtimes(standing))):
        shown = f"memory of its own (USS); resident {resident / MEBIBYTE:.0f} MiB"
        report.add(shown, f"{own / MEBIBYTE:.1f} MiB", "≤ 60 MB", reached=own <= 60e6)


async def _many_awake(standing: Standing, report: Report, database: Database) -> None:
    report.title(
        f"{AWAKE} tenants awake at once on {os.cpu_count()} cores, each one query after another, at the desk"
    )
    tenants = await _tenants(database, AWAKE)
    query = json.dumps({"query": "SELECT sum(value) AS s FROM generate_series(1, 1000)"}).encode()
    connections = [Connection(standing.lake_url) for _ in tenants]
    headers = [_headers(standing, tenant) | {"Cache-Control": "no-cache"} for tenant in tenants]
    pairs = list(zip(connections, headers, strict=True))
    await asyncio.gather(*(_ask(connection, told, query) for connection, told in pairs))
    for connection, told in pairs:
        await timed(connection, f"{LAKE}/sql", told, query, 5)
    alone = milliseconds(await timed(*_asked(pairs[0]), query, 200))
    # Awake at once and asked at a person's pace: each tenant every 100 ms, out of step.
    paced = await asyncio.gather(*(_paced(pair, query, n) for n, pair in enumerate(pairs)))
    together = milliseconds([second for taken in paced for second in taken])
    # And asked without a pause, by all of them.
    pressed = milliseconds(
        [
            s
            for taken in await asyncio.gather(*(timed(*_asked(pair), query, 60) for pair in pairs))
            for s in taken
        ]
    )
    for connection in connections:
        await connection.close()
    report.add("one tenant, p50", f"{alone:.2f} ms")
    report.add(
        f"{AWAKE} tenants, each every 100 ms, p50",
        f"{together:.2f} ms",
        "≤ 3 × one",
        reached=together <= 3 * alone,
    )
    report.add(f"{AWAKE} tenants without a pause, p50", f"{pressed:.2f} ms ({pressed / alone:.1f} ×)")


async def _sleepers(standing: Standing, report: Report, database: Database) -> None:
    report.title(f"{SLEEPERS} tenants asleep: what they cost at rest ({REST_SECONDS} s)")
    for entry in await _awake(database):
        connection = Connection(standing.lake_url)
        await _ask(connection, _headers(standing, entry), b"", path=f"{LAKE}/stop?wait=60")
        await connection.close()
    before = await _at_rest(standing, database)
    # A lake that sleeps is a row that says so, beside its tenant and its configuration.
    for tenant in await _tenants(database, SLEEPERS):
        async with database.tenant(tenant) as connection:
            await connection.execute("insert into lakes (tenant_id) values ($1)", tenant)
            await connection.execute(
                "insert into lake_vms (tenant_id, state, epoch) values ($1, 'paused', 1)", tenant
            )
    after = await _at_rest(standing, database)
    for name, (few, many) in {name: (before[name], after[name]) for name in before}.items():
        is_processor = name.startswith("processor")
        reached = many - few <= (0.02 if is_processor else 0)
        unit = " of a core" if is_processor else ""
        goal = "as before, ± 0.02" if is_processor else "as before"
        shown = f"{few:.3f} → {many:.3f}{unit}" if is_processor else f"{few:.0f} → {many:.0f}"
        report.add(name, shown, goal, reached=reached)
    # One of them is woken as any other.
    [sleeper] = await _tenants(database, 1)
    connection = Connection(standing.lake_url)
    taken = await timed(connection, f"{LAKE}/sql", _headers(standing, sleeper), sql("SELECT 1 AS one"), 1)
    await connection.close()
    report.add("waking one beside them", f"{taken[0]:.3f} s")


async def _at_rest(standing: Standing, database: Database) -> dict[str, float]:
    await asyncio.sleep(3)
    started, spent = time.monotonic(), standing.cpu_seconds()
    await asyncio.sleep(REST_SECONDS)
    passed, now = time.monotonic() - started, standing.cpu_seconds()
    async with database.any_tenant() as connection:
        sessions = await connection.fetchval(
            "select count(*) from pg_stat_activity where application_name = 'weir'"
        )
    worker = [entry for kind, entry in standing._running() if kind == "worker"]
    return {
        "runtimes": len(_runtimes(standing)),
        "the worker's open sockets (Postgres, Redis, SQS, host)": sum(map(_sockets, worker)),
        "sessions at Postgres of the whole platform": sessions,
        "processor: the worker": (now["worker"] - spent["worker"]) / passed,
        "processor: the desk": (now["context-lake"] - spent["context-lake"]) / passed,
    }


async def _paced(pair: tuple[Connection, dict[str, str]], query: bytes, number: int) -> list[float]:
    await asyncio.sleep(number * 0.1 / AWAKE)
    taken: list[float] = []
    for _ in range(30):
        taken += await timed(*_asked(pair), query, 1)
        await asyncio.sleep(max(0.0, 0.1 - taken[-1]))
    return taken


def _asked(pair: tuple[Connection, dict[str, str]]) -> tuple[Connection, str, dict[str, str]]:
    return pair[0], f"{LAKE}/sql", pair[1]


async def _ask(
    connection: Connection, headers: dict[str, str], body: bytes, *, path: str = f"{LAKE}/sql"
) -> tuple[int, dict]:
    answer = await connection.ask("POST", path, headers, body)
    return answer.status, json.loads(answer.body)


async def _tenants(database: Database, count: int) -> list[str]:
    found = [str(uuid.uuid4()) for _ in range(count)]
    async with database.any_tenant() as connection:
        await connection.execute("insert into tenants (id) select unnest($1::uuid[])", found)
    return found


async def _awake(database: Database) -> list[str]:
    async with database.any_tenant() as connection:
        rows = await connection.fetch("select tenant_id from lake_vms where state = 'running'")
    return [row["tenant_id"] for row in rows]


def _headers(standing: Standing, tenant: str) -> dict[str, str]:
    """A ticket of a tenant's admin for the desk; it is good for a minute."""
    admin = Principal(tenant_id=tenant, subject="bench", actor="user", scopes=frozenset({"admin"}))
    return {HEADER: standing._tickets.issue(admin, "context-lake")} | JSON


def _runtimes(standing: Standing) -> list[Path]:
    """The host's children."""
    hosts = {int(entry.name): entry for kind, entry in standing._running() if kind == "lake-host"}
    return [entry for entry in hosts.values() if _parent_of(entry) in hosts]


def _parent_of(entry: Path) -> int:
    return int((entry / "stat").read_text().rpartition(")")[2].split()[1])


def _sockets(entry: Path) -> int:
    count = 0
    for link in (entry / "fd").iterdir():
        with suppress(OSError):
            count += str(link.readlink()).startswith("socket:")
    return count


def _memory(entry: Path) -> tuple[int, int]:
    """Bytes that nobody else has, and bytes in all."""
    told = {
        line.split(":")[0]: int(line.split()[1]) * 1024
        for line in (entry / "smaps_rollup").read_text().splitlines()[1:]
    }
    return told["Private_Clean"] + told["Private_Dirty"], told["Rss"]
