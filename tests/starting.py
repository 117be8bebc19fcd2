"""Starting the whole platform as its user would, and stopping it again by its process group."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.serving import free_port

ROOT = Path(__file__).parents[1]
START_SECONDS = 120
STOP_SECONDS = 60


@dataclass
class StartedPlatform:
    """A running platform: where it is, what it said, and its leading process."""

    url: str
    data_dir: Path
    log: Path
    process: subprocess.Popen[bytes]

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def session(self) -> dict[str, str]:
        """Headers of a local session."""
        opened = httpx.post(f"{self.url}/api/v1/auth/local-session", timeout=30)
        opened.raise_for_status()
        return {"Authorization": f"Bearer {opened.json()['access_token']}"}

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=headers or self.session(), timeout=200)


def command() -> list[str]:
    """`make up` where make made this environment, else the same command without make."""
    if Path(sys.prefix).resolve() == (ROOT / ".venv").resolve():
        return ["make", "up"]
    return [sys.executable, "-m", "weir", "up"]


def launch(work: Path, **settings: str) -> StartedPlatform:
    """Starts a platform in a group of its own without waiting for it."""
    work.mkdir(parents=True, exist_ok=True)
    port = int(settings.setdefault("WEIR_PORT", str(free_port())))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("services", "shared"))
    environment = kept | {"PYTHONPATH": paths, "WEIR_DATA_DIR": str(work / "data")} | settings
    log = work / "platform.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command(), cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT, process_group=0
        )
    return StartedPlatform(f"http://127.0.0.1:{port}", work / "data", log, process)


def wait_until_ready(platform: StartedPlatform, within: float = START_SECONDS) -> None:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if platform.process.poll() is not None:
            raise RuntimeError(f"the platform ended while starting:\n{platform.said()}")
        try:
            ready = httpx.get(f"{platform.url}/api/v1/health", timeout=5).status_code == 200
        except httpx.TransportError:
            ready = False
        if ready and "Ctrl-C" in platform.said():
            return
        time.sleep(0.1)
    raise RuntimeError(f"the platform did not start:\n{platform.said()}")


def stop(platform: StartedPlatform, number: int = signal.SIGTERM) -> None:
    """Signals the whole group, waits until none of it is left, and kills what does not go."""
    for step, patience in ((number, STOP_SECONDS), (signal.SIGKILL, 10)):
        deadline = time.monotonic() + patience
        if not _signal(platform, step):
            break
        while _signal(platform, 0) and time.monotonic() < deadline:
            platform.process.poll()
            time.sleep(0.05)
    platform.process.wait(10)


def _signal(platform: StartedPlatform, number: int) -> bool:
    try:
        os.killpg(platform.process.pid, number)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def started(work: Path, **settings: str) -> Iterator[StartedPlatform]:
    """A platform that is ready, stopped at the end of the block."""
    platform = launch(work, **settings)
    try:
        wait_until_ready(platform)
        yield platform
    finally:
        stop(platform)
