"""A platform of stand-ins around real embedded servers, started and watched from outside."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from weir.onebox.ports import free_ports


class Platform:
    """One `weir up`, in a process group of its own."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        self.port = int(environment.pop("port", "0")) or free_ports(1)[0]
        self.log = data_dir.with_name(f"{data_dir.name}.{self.port}.out")
        clean = {key: value for key, value in os.environ.items() if not key.startswith("WEIR_")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("launch.py")), str(self.port), str(data_dir)],
                env={**clean, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def await_output(self, text: str, times: int = 1, seconds: float = 60) -> None:
        eventually(
            lambda: self.output.count(text) >= times or self._ended_early(text), seconds, lambda: self.output
        )

    def ready(self) -> "Platform":
        self.await_output("Weir is ready")
        return self

    def end(self, within: float = 60) -> int:
        return self.process.wait(within)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def kill_everything(self) -> None:
        """As a power cut would: nobody gets to say a word."""
        if self.process.poll() is not None:
            return  # its number may be a stranger's by now
        for pid in (self.process.pid, *self.descendants()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.end()

    def service_pid(self, name: str) -> int:
        return int((self.data_dir / f"{name}.pid").read_text())

    def service_environment(self, name: str) -> dict[str, str]:
        file = self.data_dir / f"{name}.env"
        # Written as the service starts, for which only the gateway makes us wait.
        eventually(lambda: file.exists() and file.stat().st_size)
        lines = file.read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def descendants(self) -> set[int]:
        """Every process below the leader, with those that changed their group."""
        parents = {pid: parent for pid, parent, _ in processes()}
        family = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= more
        return family - {self.process.pid}

    def _ended_early(self, text: str) -> bool:
        if self.process.poll() is not None and text not in self.output:
            pytest.fail(f"weir ended with {self.process.returncode}:\n{self.output}")
        return False


def processes() -> Iterator[tuple[int, int, str]]:
    """Number, parent and state of each process."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text(errors="replace").rpartition(") ")[2].split()[:2]
        except OSError:
            continue
        yield int(stat.parent.name), int(parent), state


def living(pids: set[int]) -> set[int]:
    return {pid for pid, _, state in processes() if pid in pids and state != "Z"}


def eventually(
    holds: Callable[[], object], seconds: float = 10, told: Callable[[], object] = lambda: ""
) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)
