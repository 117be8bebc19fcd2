"""The fixture that starts platforms of stand-ins."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.onebox.platforms import Platform


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Callable[..., Platform]]:
    """Starts platforms; kills at the end what a failed test left."""
    started: list[Platform] = []

    def start(data_dir: Path | None = None, **environment: str) -> Platform:
        started.append(Platform(data_dir or tmp_path / "data", **environment))
        return started[-1]

    yield start
    for one in started:
        # Asked first: while it starts, a kill would race with the children of its children.
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.process.terminate()
            one.process.wait(30)
        one.kill_everything()
