"""A started lake host, runtimes of it, and the smallest clients of their two sockets."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

SECRET = "5ec2e7" * 8
MEBIBYTE = 1024 * 1024


class HostClient:
    """Speaks the host's JSON lines; one connection for requests, one for exits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.exits: list[dict[str, Any]] = []
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._watch: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        self._streams = await asyncio.open_unix_connection(str(self.path))
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        writer.write(b'{"op":"watch"}\n')
        assert json.loads(await reader.readline()) == {"ok": True}
        self._watch = asyncio.create_task(self._collect(reader, writer))

    async def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        assert self._streams is not None
        reader, writer = self._streams
        writer.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
        return json.loads(await reader.readline())

    async def exit_of(self, pid: int, *, within: float = 10.0) -> dict[str, Any]:
        until = time.monotonic() + within
        while time.monotonic() < until:
            for event in self.exits:
                if event["pid"] == pid:
                    return event
            await asyncio.sleep(0.02)
        raise AssertionError(f"process {pid} has not ended within {within} s")

    async def close(self) -> None:
        assert self._watch is not None
        assert self._streams is not None
        self._watch.cancel()
        self._streams[1].close()

    async def _collect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while line := await reader.readline():
                self.exits.append(json.loads(line))


class RuntimeClient:
    """One tenant's runtime, over its unix socket."""

    def __init__(self, pid: int, tenant: str, epoch: int, socket: Path) -> None:
        self.pid = pid
        self.tenant = tenant
        self.epoch = epoch
        self.socket = socket
        self.http = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=str(socket)), headers={"x-weir-runtime-secret": SECRET}
        )

    async def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        async with self.http.request(method, f"http://lake{path}", json=body, headers=headers) as response:
            return response.status, await response.json()

    async def configure(self, *datasets: dict[str, Any], version: int = 1, **rest: Any) -> None:
        body = {"version": version, "datasets": list(datasets), **rest}
        assert await self.request("PUT", "/configuration", body) == (200, {"ok": True, "version": version})

    async def sql(self, query: str, *, seconds: float = 30.0, **rest: Any) -> tuple[int, Any]:
        headers = {"x-weir-deadline-ms": str(round(seconds * 1000))}
        return await self.request("POST", "/sql", {"query": query, **rest}, **headers)

    async def rows(self, query: str, **rest: Any) -> list[dict[str, Any]]:
        status, answer = await self.sql(query, **rest)
        assert status == 200, answer
        return answer["rows"]

    async def status(self) -> dict[str, Any]:
        return (await self.request("GET", "/status"))[1]

    async def tables(self) -> dict[str, Any]:
        return {t["name"]: t for t in (await self.request("GET", "/tables"))[1]["tables"]}

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        return resident_bytes(self.pid)


class Lakes:
    """Starts runtimes on the host, and remembers them for the end."""

    def __init__(self, host: HostClient, home: Path) -> None:
        self.host = host
        self.home = home
        self.imports = home / "imports"
        self.imports.mkdir(exist_ok=True)
        self._clients: list[RuntimeClient] = []

    def order(
        self, tenant: str, epoch: int = 1, *, memory: int = 1024 * MEBIBYTE, **rest: Any
    ) -> dict[str, Any]:
        return {
            "tenant": tenant,
            "epoch": epoch,
            "socket": str(self.home / f"{tenant[:8]}.sock"),
            "memoryLimitBytes": memory,
            "cacheDir": str(self.home / "cache" / tenant[:8]),
            "importRoot": str(self.imports),
            "secret": SECRET,
            "allowPrivate": True,
            **rest,
        }

    async def start(self, tenant: str | None = None, epoch: int = 1, **rest: Any) -> RuntimeClient:
        order = self.order(tenant or str(uuid.uuid4()), epoch, **rest)
        reply = await self.host.ask("spawn", **order)
        assert reply["ok"], reply
        client = RuntimeClient(reply["pid"], order["tenant"], epoch, Path(order["socket"]))
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            await client.http.close()
            await self.host.ask("kill", tenant=client.tenant, epoch=client.epoch, signal="KILL")

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.imports / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path


def start_host(path: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """The host as the operator starts it, with credentials in its environment that no child may see."""
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "AWS_ACCESS_KEY_ID": "AKIAAMBIENTAMBIENT01",
        "AWS_SECRET_ACCESS_KEY": "ambient-secret",
    }
    command = [sys.executable, "-m", "weir.lake_runtime.zygote", "--socket", str(path), *arguments]
    process = subprocess.Popen(command, env=environment)
    until = time.monotonic() + 20
    while not path.exists():
        assert process.poll() is None, "the host has ended"
        assert time.monotonic() < until, "the host has not started"
        time.sleep(0.02)
    return process


@pytest.fixture(scope="session")
async def host(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HostClient]:
    path = tmp_path_factory.mktemp("host") / "control.sock"
    process = start_host(path)
    client = HostClient(path)
    await client.connect()
    yield client
    await client.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


@asynccontextmanager
async def lakes_of(home: Path, *arguments: str) -> "AsyncIterator[Lakes]":
    """Runtimes of a host of their own."""
    process = start_host(home / "control.sock", *arguments)
    client = HostClient(home / "control.sock")
    await client.connect()
    lakes = Lakes(client, home)
    try:
        yield lakes
    finally:
        await lakes.close()
        await client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


@pytest.fixture
async def lakes(host: HostClient, tmp_path: Path) -> AsyncIterator[Lakes]:
    lakes = Lakes(host, tmp_path)
    yield lakes
    await lakes.close()


@pytest.fixture
async def lake(lakes: Lakes) -> RuntimeClient:
    """A runtime with an empty configuration."""
    client = await lakes.start()
    await client.configure()
    return client


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    async def wait(condition: Callable[[], bool], *, within: float = 5.0) -> None:
        until = time.monotonic() + within
        while not condition():
            assert time.monotonic() < until, "it has not become true"
            await asyncio.sleep(0.02)

    return wait


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def open_files(pid: int) -> list[str]:
    return [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]


def limits(pid: int) -> str:
    return " ".join(Path(f"/proc/{pid}/limits").read_text().split())


def unix_sockets(pid: int) -> set[str | None]:
    """The paths of the unix sockets that a process has open."""
    lines = [line.split() for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]]
    paths = {fields[6]: fields[7] for fields in lines if len(fields) > 7}
    return {paths.get(link[8:-1]) for link in open_files(pid) if link.startswith("socket:[")}


def dataset(name: str, location: Path | str, form: str = "csv", **options: Any) -> dict[str, Any]:
    """A `file` dataset as the control plane would send it."""
    return {
        "name": name,
        "connector": "file",
        "from": f"file:{location}",
        "format": form,
        "location": str(location),
        "options": options,
    }
