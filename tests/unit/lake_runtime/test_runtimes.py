"""The host's watch over its runtimes."""

import time
from pathlib import Path

import pytest

from weir.lake_runtime import runtimes
from weir.lake_runtime.runtimes import Runtimes
from weir.lake_runtime.settings import RuntimeSettings


def test_a_host_that_stands_still_in_the_middle_of_a_look_ends_nobody_for_their_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Runtimes(lambda *_: time.sleep(60), grace_seconds=1, silence_seconds=0.2)
    settings = RuntimeSettings(
        tenant="t",
        epoch=1,
        secret="s",
        memory_limit_bytes=1 << 30,
        cache_dir=tmp_path,
        import_root=tmp_path,
    )
    runtime = watched.spawn(settings, tmp_path / "t.sock")

    def stand_still(_: int) -> int:
        time.sleep(0.3)
        return 0

    try:
        with monkeypatch.context() as patched:
            patched.setattr(runtimes, "resident_bytes", stand_still)
            watched.look()
        watched.look()
        assert runtime.ended_for == ""
    finally:
        watched.end(runtime, "stopped")
        while not watched.reap():
            time.sleep(0.01)
