"""An upload through every process of a started platform, and what is left when one of them dies."""

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
from tests.starting import StartedPlatform

LAKE = "/v1/context-lake"


def uploads(platform: StartedPlatform) -> set[Path]:
    return {path for path in (platform.data_dir / "uploads").rglob("*") if path.is_file()}


def process_of(platform: StartedPlatform, service: str) -> int:
    """The id of one service of this platform, by its command line and its data directory."""
    mine = f"WEIR_DATA_DIR={platform.data_dir}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if service.encode() in words and mine in (entry / "environ").read_bytes().split(b"\0"):
                    return int(entry.name)
            except OSError:
                continue
    raise AssertionError(f"no {service}")


def until(check: object, within: float) -> None:
    deadline = time.monotonic() + within
    while not check():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it has not become true"
        time.sleep(0.1)


def test_a_desk_killed_in_the_middle_leaves_no_dataset_and_the_sweep_no_file(
    platform: StartedPlatform, admin: httpx.Client
) -> None:
    before, name = uploads(platform), f"t_{uuid.uuid4().hex[:8]}"
    ended = threading.Event()
    answers: list[object] = []

    def stream() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="%s.csv"\r\n\r\n' % name.encode()
        yield b"a,b\n"
        while not ended.is_set():
            yield b"1,2\n" * 16384
            time.sleep(0.01)

    def send() -> None:
        headers = {"content-type": "multipart/form-data; boundary=x"}
        try:
            answers.append(admin.post(f"{LAKE}/imports", content=stream(), headers=headers).status_code)
        except httpx.HTTPError as fault:
            answers.append(fault)

    sending = threading.Thread(target=send)
    sending.start()
    until(lambda: uploads(platform) - before, 20)
    desk = process_of(platform, "context-lake")
    os.kill(desk, signal.SIGKILL)
    # This client reads an answer only when its body is out.
    time.sleep(1)
    ended.set()
    until(lambda: answers, 30)
    sending.join(10)
    assert answers[0] == 503 or isinstance(answers[0], httpx.HTTPError), answers
    until(lambda: _answers(admin), 30)
    assert admin.get(f"{LAKE}/datasets/{name}").status_code == 404
    until(lambda: uploads(platform) <= before, 60)


def _answers(admin: httpx.Client) -> bool:
    return admin.get(f"{LAKE}/status").status_code == 200
