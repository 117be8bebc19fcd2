"""`weir up`: what it starts it stops, what dies it restarts, what is wrong it says."""

import asyncio
import os
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from msgspec.structs import replace
from tests.conftest import migrated_database
from tests.fakes.model_server import say, serve_fake_models, use
from tests.serving import free_port
from tests.starting import StartedPlatform, launch, started, stop, wait_until_ready


def processes_of(data_dir: Path) -> set[int]:
    """Every process that was started for this data directory, whatever its group."""
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(data_dir).encode() in told and b"pytest" not in told.split(b"\0")[0]:
            found.add(int(entry.name))
    return found - {os.getpid()}


def pid_of(data_dir: Path, command: str) -> int:
    for pid in processes_of(data_dir):
        line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if command.encode() in line and b"weir" in line:
            return pid
    raise AssertionError(f"no process runs {command}")


def ask(platform: StartedPlatform) -> None:
    with platform.client() as client:
        answered = client.post("/v1/context-lake/sql", json={"query": "SELECT 1 AS one"})
        assert answered.json()["rows"] == [{"one": 1}], answered.text


@pytest.mark.parametrize("how", ["group", "leader", "interrupt"])
def test_a_stop_leaves_no_process_behind(tmp_path: Path, how: str) -> None:
    with started(tmp_path, WEIR_DEMO="0") as platform:
        ask(platform)
        assert len(processes_of(platform.data_dir)) > 6
        if how == "leader":
            platform.process.terminate()
        else:
            os.killpg(platform.process.pid, signal.SIGTERM if how == "group" else signal.SIGINT)
        platform.process.wait(30)
        assert processes_of(platform.data_dir) == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_open_turn_ends_as_it_would_before_the_platform_stops(tmp_path: Path, number: int) -> None:
    """The signal comes while the model thinks; the tool that it then asks for is asked of a lake that is there."""
    asking = use("lake_query", {"query": "SELECT count(*) AS n FROM flights"})
    async with serve_fake_models() as models:
        brain = models.brain(replace(asking, delay=2.0), say("counted"))
        with started(tmp_path) as platform:
            async with httpx.AsyncClient(
                base_url=platform.url, headers=platform.session(), timeout=60
            ) as client:
                name = await _schema_of(client, models.base_url, brain.name)
                chat = asyncio.create_task(
                    client.post(f"/api/v1/schemas/{name}/chat", json={"message": "count"})
                )
                while not brain.requests:
                    await asyncio.sleep(0.05)
                os.killpg(platform.process.pid, number)
                said = (await chat).text
            assert '"output":"{\\"columns\\":[\\"n\\"],\\"rows\\":[[336776]]' in said
            assert said.rstrip().splitlines()[-2] == "event: done"
            assert await asyncio.to_thread(platform.process.wait, 30) is not None
            assert processes_of(platform.data_dir) == set()


async def _schema_of(client: httpx.AsyncClient, base_url: str, model: str) -> str:
    wanted = [
        ("models", {"type": "openai_compatible", "model_name": model, "base_url": base_url, "api_key": "k"}),
        ("agents", {"model": "draining", "tools": ["lake_query"], "system": "Count."}),
        ("schemas", {"entry_agent_id": "draining", "chat_enabled": True}),
    ]
    for noun, body in wanted:
        made = await client.post(f"/api/v1/{noun}", json={"name": "draining", **body})
        assert made.status_code == 201, made.text
    return "draining"


def test_a_kill_of_the_leader_leaves_no_process_behind_and_loses_nothing(tmp_path: Path) -> None:
    with started(tmp_path, WEIR_DEMO="0") as platform:
        ask(platform)
        with platform.client() as client:
            client.post("/api/v1/auth/tokens", json={"name": "kept", "scopes": ["chat"]})
        os.killpg(platform.process.pid, signal.SIGKILL)
        platform.process.wait(10)
        deadline = time.monotonic() + 10
        while processes_of(platform.data_dir) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert processes_of(platform.data_dir) == set()
    with started(tmp_path, WEIR_DEMO="0") as again, again.client() as client:
        assert "kept" in client.get("/api/v1/auth/tokens").text
        ask(again)


@pytest.mark.parametrize("service", ["gateway", "context-lake", "agent-engine", "worker", "lake-host"])
def test_a_service_that_dies_is_restarted(platform: StartedPlatform, service: str) -> None:
    os.kill(pid_of(platform.data_dir, service), signal.SIGKILL)
    deadline = time.monotonic() + 30
    while True:
        try:
            pid_of(platform.data_dir, service)
            ask(platform)
            return
        except (AssertionError, httpx.HTTPError, KeyError):
            assert time.monotonic() < deadline, platform.said()[-2000:]
            time.sleep(0.2)


def test_a_port_in_use_is_one_clear_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        platform = launch(tmp_path, WEIR_PORT=str(port))
        assert platform.process.wait(60) != 0
    assert f"Port {port} is in use" in platform.said()
    assert "Traceback" not in platform.said()


def test_a_damaged_data_directory_is_one_clear_sentence(tmp_path: Path) -> None:
    with started(tmp_path, WEIR_DEMO="0") as platform:
        pass
    (platform.data_dir / "postgres" / "PG_VERSION").unlink()
    broken = launch(tmp_path, WEIR_DEMO="0")
    assert broken.process.wait(60) != 0
    assert str(platform.data_dir / "postgres") in broken.said()
    assert "Traceback" not in broken.said()


def test_an_unusable_key_is_one_clear_sentence_before_anything_starts(tmp_path: Path) -> None:
    key = tmp_path / "issuer.pem"
    key.write_text("not a key")
    external = {"WEIR_AUTH_MODE": "external", "WEIR_JWT_PUBLIC_KEY_PATH": str(key)}
    damaged = tmp_path / "work" / "data" / "keys" / "ticket_ed25519.priv"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("zz")
    for work, settings, named in ((tmp_path, external, key), (tmp_path / "work", {}, damaged)):
        platform = launch(work, **settings)
        assert platform.process.wait(60) != 0
        said = platform.said()
        assert f"weir up: {named} holds no Ed25519" in said
        assert "starting it again" not in said
        assert "Traceback" not in said


def test_an_address_of_another_machine_is_one_clear_sentence(tmp_path: Path) -> None:
    platform = launch(tmp_path, WEIR_HOST="192.0.2.1")
    assert platform.process.wait(60) != 0
    assert "The gateway cannot listen on 192.0.2.1" in platform.said()
    assert "starting it again" not in platform.said()


def test_it_is_ready_and_says_so_where_it_listens(tmp_path: Path) -> None:
    """127.0.0.2 stands for an interface of its own: what listens there is not at 127.0.0.1."""
    platform = launch(tmp_path, WEIR_HOST="127.0.0.2", WEIR_DEMO="0", WEIR_LOCAL_SESSION_TTL="5m")
    try:
        deadline = time.monotonic() + 60
        while "Ctrl-C" not in platform.said():
            assert time.monotonic() < deadline, platform.said()
            assert platform.process.poll() is None, platform.said()
            time.sleep(0.1)
        assert "Weir is ready at http://127.0.0.2:" in platform.said()
        assert "an admin session of 5m" in platform.said()
    finally:
        stop(platform)


async def test_another_database_gets_the_demo_too(tmp_path: Path, postgres_dsn: str, redis_url: str) -> None:
    """The same data directory, first with its own Postgres, then with one that was there already."""
    name = f"weir_{uuid.uuid4().hex[:12]}"
    base, _, _ = postgres_dsn.rpartition("/")
    server = await asyncpg.connect(postgres_dsn)
    await server.execute(f'create database "{name}"')
    try:
        for settings in ({}, {"WEIR_DATABASE_URL": f"{base}/{name}", "WEIR_REDIS_URL": redis_url}):
            with started(tmp_path, **settings) as platform, platform.client() as client:
                counted = client.post(
                    "/v1/context-lake/sql", json={"query": "SELECT count(*) AS n FROM flights"}
                )
                assert counted.json()["rows"] == [{"n": 336776}], counted.text
                assert client.get("/api/v1/schemas/ask-the-lake").status_code == 200
    finally:
        await server.execute(f'drop database "{name}" with (force)')
        await server.close()


@pytest.mark.parametrize(
    ("variable", "value"),
    [("WEIR_PORT", "x"), ("WEIR_AUTH_MODE", "none"), ("WEIR_DATABASE_URL", "postgresql://x@127.0.0.1:1/x")],
)
def test_a_wrong_setting_is_one_clear_sentence(tmp_path: Path, variable: str, value: str) -> None:
    settings = {"WEIR_PORT": str(free_port())} | {variable: value}
    if value == "x":
        settings["WEIR_PORT"] = "x"
    platform = launch(tmp_path, **({**settings, "WEIR_PORT": "0"} if variable == "WEIR_PORT" else settings))
    assert platform.process.wait(60) != 0
    said = platform.said()
    assert variable in said
    assert "Traceback" not in said
    stop(platform)


@pytest.fixture
async def untouched_dsn(postgres_dsn: str) -> AsyncIterator[str]:
    """A database that holds nobody's work: a worker would take it up."""
    async with migrated_database(postgres_dsn) as dsn:
        yield dsn


def test_it_runs_on_servers_that_are_there_already(
    tmp_path: Path, untouched_dsn: str, redis_url: str
) -> None:
    """Twice the same command, the second time on a Postgres and a Redis that it did not start."""
    other_redis = f"{redis_url.rpartition('/')[0]}/1"
    with started(
        tmp_path, WEIR_DATABASE_URL=untouched_dsn, WEIR_REDIS_URL=other_redis, WEIR_DEMO="0"
    ) as platform:
        ask(platform)
        assert not (platform.data_dir / "postgres").exists()


def test_a_second_start_keeps_what_its_owner_did_to_the_demo(tmp_path: Path) -> None:
    with started(tmp_path) as platform, platform.client() as client:
        assert client.delete("/v1/context-lake/datasets/airports").status_code == 200
    with started(tmp_path) as platform, platform.client() as client:
        wait_until_ready(platform)
        names = {item["name"] for item in client.get("/v1/context-lake/datasets").json()["datasets"]}
        assert names == {"flights", "airlines"}
