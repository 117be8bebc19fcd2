"""`weir up`: what it starts it stops, what dies it restarts, what is wrong it says."""

import os
import signal
import socket
import time
from pathlib import Path

import httpx
import pytest
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


def test_it_runs_on_servers_that_are_there_already(tmp_path: Path, dsn: str, redis_url: str) -> None:
    """Twice the same command, the second time on a Postgres and a Redis that it did not start."""
    with started(tmp_path, WEIR_DATABASE_URL=dsn, WEIR_REDIS_URL=redis_url, WEIR_DEMO="0") as platform:
        ask(platform)
        assert not (platform.data_dir / "postgres").exists()


def test_a_second_start_keeps_what_its_owner_did_to_the_demo(tmp_path: Path) -> None:
    with started(tmp_path) as platform, platform.client() as client:
        assert client.delete("/v1/context-lake/datasets/airports").status_code == 200
    with started(tmp_path) as platform, platform.client() as client:
        wait_until_ready(platform)
        names = {item["name"] for item in client.get("/v1/context-lake/datasets").json()["datasets"]}
        assert names == {"flights", "airlines"}
