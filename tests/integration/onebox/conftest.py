"""The fixture that starts platforms of stand-ins."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.onebox.platforms import Platform, living


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Callable[..., Platform]]:
    """Starts platforms; kills at the end what a failed test left."""
    started: list[Platform] = []

    def start(data_dir: Path | None = None, **environment: str) -> Platform:
        started.append(Platform(data_dir or tmp_path / "data", **environment))
        return started[-1]

    yield start
    for one in started:
        left = one.descendants()
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        for pid in living(left):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
