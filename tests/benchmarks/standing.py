"""The platform under measurement: started as its user would, and reached at each of its layers."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
from tests.benchmarks.load import Connection
from tests.serving import free_port
from tests.starting import ROOT, StartedPlatform

from weir.context_lake.runtimes import secret_identity
from weir_shared.auth.keys import TICKET_KEY, load_or_create_key_pair
from weir_shared.auth.principal import DEFAULT_TENANT_ID, Principal
from weir_shared.auth.tickets import HEADER, Audience, TicketOffice
from weir_shared.db.pool import open_database
from weir_shared.sealing import Vault, load_or_create_keys

LAKE = "/v1/context-lake"
JSON = {"Content-Type": "application/json"}
SERVICES = ("gateway", "context-lake", "agent-engine", "worker", "lake-host", "postgres", "valkey")


@dataclass
class Standing:
    """A running platform with the keys to its inner doors."""

    platform: StartedPlatform

    def __post_init__(self) -> None:
        keys = load_or_create_key_pair(self.platform.data_dir / "keys", TICKET_KEY)
        self._tickets = TicketOffice(keys)
        self.headers = self.platform.session() | JSON
        self.client = httpx.Client(base_url=self.platform.url, headers=self.headers, timeout=200)
        self.environment = self._environment()

    @property
    def lake_url(self) -> str:
        return self.environment["WEIR_LAKE_URL"]

    @property
    def engine_url(self) -> str:
        return self.environment["WEIR_ENGINE_URL"]

    def ticket(self, audience: Audience) -> dict[str, str]:
        admin = Principal(
            tenant_id=DEFAULT_TENANT_ID, subject="bench", actor="user", scopes=frozenset({"admin"})
        )
        return {HEADER: self._tickets.issue(admin, audience)} | JSON

    async def runtime(self) -> tuple[str, dict[str, str]]:
        """Address and headers of the default tenant's runtime."""
        database = await open_database(self.environment["WEIR_DATABASE_URL"], size=2)
        vault = Vault(database, load_or_create_keys(self.platform.data_dir / "keys" / "kek"))
        async with database.tenant(DEFAULT_TENANT_ID) as connection:
            row = await connection.fetchrow(
                "select endpoint, secret, epoch from lake_vms where tenant_id = $1", DEFAULT_TENANT_ID
            )
        assert row is not None
        secret = await vault.open(DEFAULT_TENANT_ID, secret_identity(row["epoch"]), row["secret"])
        await database.close()
        headers = {"x-weir-runtime-secret": secret, "x-weir-deadline-ms": "100000"} | JSON
        return f"unix:{row['endpoint']}", headers

    def processes(self) -> dict[str, int]:
        """Resident bytes of the platform's processes, by what they are; several of a kind are added."""
        found: dict[str, int] = {}
        for kind, entry in self._running():
            with suppress(OSError):
                statm = (entry / "statm").read_text().split()
                # Shared pages count once per process: what matters here is how much they grow.
                resident = (int(statm[1]) - int(statm[2])) * os.sysconf("SC_PAGE_SIZE")
                found[kind] = found.get(kind, 0) + resident
        return found

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time that the platform's processes have spent, by what they are."""
        found: dict[str, float] = {}
        for kind, entry in self._running():
            with suppress(OSError):
                found[kind] = found.get(kind, 0) + processor_seconds(entry)
        return found

    def processes_of(self, kind: str) -> list[int]:
        return [int(entry.name) for found, entry in self._running() if found == kind]

    def _running(self) -> Iterator[tuple[str, Path]]:
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                told = (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(self.platform.data_dir).encode() not in told + line.encode():
                continue
            # Postgres calls some of its own processes workers.
            named = "postgres" if line.startswith("postgres:") else line
            if kind := next((name for name in SERVICES if name in named), ""):
                yield kind, entry

    async def rows_written(self, *tables: str) -> int:
        """Rows of the tables that Postgres has inserted, updated or deleted so far."""
        database = await open_database(self.environment["WEIR_DATABASE_URL"], size=1)
        async with database.any_tenant() as connection:
            rows = await connection.fetchval(
                """
                select sum(n_tup_ins + n_tup_upd + n_tup_del) from pg_stat_user_tables
                where relname = any($1::text[])
                """,
                list(tables),
            )
        await database.close()
        return int(rows or 0)

    def metric(self, name: str) -> float:
        """The sum of a metric's samples over services and labels."""
        text = self.client.get("/metrics").text
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith((f"{name}{{", f"{name} "))
        )

    def add_parquet(self, name: str, table: pa.Table) -> Path:
        folder = self.platform.data_dir / "imports" / "bench"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.parquet"
        pq.write_table(table, path)
        body = {"name": name, "from": f"file:{path.resolve()}"}
        self.client.post(f"{LAKE}/datasets", json=body).raise_for_status()
        return path

    def _environment(self) -> dict[str, str]:
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and b"\0gateway" in (entry / "cmdline").read_bytes():
                    pairs = (entry / "environ").read_bytes().decode().split("\0")
                    known = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
                    if known.get("WEIR_PORT") == self.platform.url.rpartition(":")[2]:
                        return known
            except OSError:
                continue
        raise RuntimeError("the gateway's process was not found")


@contextmanager
def fake_model(*, pace: float = 0.0) -> Iterator[str]:
    """The address of a model that does nothing, in a process of its own; `pace` is its seconds per token."""
    with _beside("model", str(pace)) as url:
        yield url


@contextmanager
def mcp_server() -> Iterator[str]:
    """The address of an MCP server of the official package, in a process of its own; `/seen` tells what it was asked."""
    with _beside("mcp_server") as url:
        yield url


@contextmanager
def embedder(dimension: int) -> Iterator[str]:
    """The address of an embedding model that does nothing, in a process of its own."""
    with _beside("embedder", str(dimension)) as url:
        yield url


@contextmanager
def plain_relay(url: str) -> Iterator[str]:
    """The address of a process that hands on the bytes of another address and knows nothing of them."""
    with _beside("plain_relay", url.rpartition(":")[2]) as address:
        yield address


@contextmanager
def _beside(module: str, *arguments: str) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", str(port), *arguments]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        for _ in range(200):
            try:
                httpx.get(f"http://127.0.0.1:{port}/", timeout=1)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def own_cpu_seconds() -> dict[str, float]:
    """Processor time of the measurement itself: of the driver, and of the model and the relays beside it."""
    found = {"driver": time.process_time()}
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for child in children:
        line = Path(f"/proc/{child}/cmdline").read_bytes().decode()
        kind = next((name for name in ("model", "plain_relay") if f"benchmarks.{name}\0" in line), "")
        if kind:
            found[kind] = found.get(kind, 0) + processor_seconds(Path(f"/proc/{child}"))
    return found


def processor_seconds(entry: Path) -> float:
    fields = (entry / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def timed(
    connection: Connection, path: str, headers: dict[str, str], body: bytes, times: int
) -> list[float]:
    """Seconds of each of so many requests, one after the other."""
    taken: list[float] = []
    for _ in range(times):
        reply = await connection.ask("POST", path, headers, body)
        if reply.status != 200:
            raise RuntimeError(f"{path}: {reply.status} {reply.body[:300]!r}")
        taken.append(reply.total)
    return taken


def milliseconds(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000
