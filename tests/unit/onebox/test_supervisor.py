"""Processes are kept, given up and stopped as promised."""

import asyncio
import io
import os
import signal
import time
from pathlib import Path

import pytest

from weir.onebox.child import Command, ending, rotate_log, run_to_end
from weir.onebox.console import Console
from weir.onebox.errors import OneboxError
from weir.onebox.ports import free_ports
from weir.onebox.supervisor import Service, Supervisor


def _command(tmp_path: Path, script: str) -> Command:
    return Command(
        argv=("/bin/sh", "-c", script), environment={"PATH": "/usr/bin:/bin"}, log=tmp_path / "log"
    )


async def _until_lines(file: Path, count: int) -> None:
    while _lines(file) < count:
        await asyncio.sleep(0.02)


def _lines(file: Path) -> int:
    return file.read_text().count("\n") if file.exists() else 0


@pytest.fixture
async def supervisor():
    out = io.StringIO()
    supervisor = Supervisor(Console(out, out))
    yield supervisor, out
    await supervisor.kill()


async def test_an_ended_service_is_started_again_with_growing_pauses(supervisor, tmp_path):
    supervisor, out = supervisor
    await supervisor.start(Service(name="worker", command=_command(tmp_path, "exit 3"), start_attempts=4))
    sentence = str(await asyncio.wait_for(asyncio.shield(supervisor.failed), 10))
    assert out.getvalue().splitlines() == [
        f"  worker ended (exit code 3); starting it again in {pause} s" for pause in (0.2, 0.4, 0.8)
    ]
    assert sentence.startswith("worker ended 4 times while starting (exit code 3).")


async def test_a_server_that_refuses_to_start_is_not_asked_twice(supervisor, tmp_path):
    supervisor, _ = supervisor

    async def never() -> bool:
        return False

    command = _command(tmp_path, "echo 'x FATAL:  no data'; echo 'LOG: bye'; exit 1")
    with pytest.raises(
        OneboxError, match=r"^db ended while starting \(exit code 1: no data\)\. Move it\. Its log"
    ):
        await supervisor.start(
            Service(name="db", command=command, ready=never, start_attempts=1, advice="Move it.")
        )


async def test_a_service_that_never_gets_ready_is_said(supervisor, tmp_path):
    supervisor, _ = supervisor

    async def never() -> bool:
        return False

    with pytest.raises(OneboxError, match="was not ready after 0 s"):
        await supervisor.start(
            Service(name="slow", command=_command(tmp_path, "sleep 60"), ready=never, ready_seconds=0.2)
        )


async def test_a_missing_program_is_said(supervisor, tmp_path):
    supervisor, _ = supervisor
    command = Command(argv=("/no/such/program",), environment={}, log=tmp_path / "log")
    with pytest.raises(OneboxError, match=r"/no/such/program could not be started: No such file"):
        await supervisor.start(Service(name="x", command=command))
        raise await supervisor.failed


async def test_servers_stop_after_the_services_that_lean_on_them(supervisor, tmp_path):
    supervisor, _ = supervisor
    ready = tmp_path / "ready"

    def traps(name: str) -> Command:
        script = f"trap 'sleep 0.2; echo {name} >> {tmp_path}/order; exit 0' TERM; echo {name} >> {ready}; while :; do sleep 0.05; done"
        return _command(tmp_path, script)

    await supervisor.start(Service(name="server", command=traps("server"), stop_order=1))
    await supervisor.start(Service(name="service", command=traps("service")))
    await _until_lines(ready, 2)
    await supervisor.stop()
    assert (tmp_path / "order").read_text().split() == ["service", "server"]


async def test_a_service_that_ignores_its_signal_is_killed_after_its_grace(supervisor, tmp_path):
    supervisor, _ = supervisor
    service = Service(
        name="deaf", command=_command(tmp_path, "trap '' TERM; sleep 60 & wait; sleep 60"), grace_seconds=0.3
    )
    await supervisor.start(service)
    await asyncio.sleep(0.2)
    (pid,) = supervisor.pids()
    began = time.monotonic()
    await supervisor.stop()
    assert time.monotonic() - began < 2
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_cancelled_run_leaves_no_process(tmp_path):
    marker = tmp_path / "pid"
    task = asyncio.create_task(run_to_end(_command(tmp_path, f"echo $$ > {marker}; exec sleep 60")))
    await _until_lines(marker, 1)
    task.cancel()
    await asyncio.wait([task])
    with pytest.raises(ProcessLookupError):
        os.kill(int(marker.read_text()), 0)


def test_endings_are_told_in_words():
    assert ending(3) == "exit code 3"
    assert ending(-signal.SIGSEGV) == "SIGSEGV"


def test_a_long_log_is_put_aside_once(tmp_path):
    log = tmp_path / "x.log"
    rotate_log(log)
    log.write_text("short")
    rotate_log(log)
    assert log.exists()
    log.write_bytes(b"x" * (1 << 21))
    rotate_log(log)
    assert not log.exists()
    assert (tmp_path / "x.log.1").stat().st_size == 1 << 21


def test_free_ports_are_different_and_out_of_the_kernels_way():
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert all(20_000 <= port < 30_000 for port in ports)
