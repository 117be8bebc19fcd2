"""A runtime inside bubblewrap: what it answers, what it cannot see, and that the host's watch reaches it."""

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from weir.lake_runtime.box import BoxMissing, find_box

from .conftest import MEBIBYTE, Lakes, RuntimeClient, dataset, is_alive, lakes_of, limits
from .test_deadlines import NESTED_LOOP


def missing() -> str:
    """Why the sandbox cannot be tried here; empty where it can."""
    try:
        find_box()
    except BoxMissing as fault:
        return str(fault)
    return ""


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "bubblewrap works here")


@pytest.fixture
async def boxes(tmp_path: Path) -> AsyncIterator[Lakes]:
    async with lakes_of(tmp_path, "--sandbox", "bwrap", "--silence-seconds", "3") as lakes:
        yield lakes


async def inside(lake: RuntimeClient, program: str) -> str:
    """What a program prints that runs where the runtime runs: in its spaces, with its root and no capability."""
    command = ["nsenter", "-t", str(lake.pid), "-m", "-p", "-i", "-u", "-r", "-w"]
    command += ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs"]
    process = await asyncio.create_subprocess_exec(
        *command,
        sys.executable,
        "-c",
        program,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={},
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_it_answers_and_its_start_takes_a_moment(boxes: Lakes) -> None:
    boxes.file("people.csv", "id,name\n1,Alice\n")
    taken = []
    for _ in range(5):
        started = time.monotonic()
        lake = await boxes.start()
        await lake.configure(dataset("people", boxes.imports / "people.csv"))
        assert await lake.rows("select * from people") == [{"id": 1, "name": "Alice"}]
        taken.append(time.monotonic() - started)
    print(f"sandboxed start to first row: median {sorted(taken)[2]:.3f} s, worst {max(taken):.3f} s")
    assert sorted(taken)[2] < 5


async def test_it_sees_its_sources_and_its_cache_and_nothing_of_the_others(boxes: Lakes) -> None:
    keys = boxes.home / "keys" / "kek"
    keys.parent.mkdir()
    keys.write_text("secret")
    boxes.file("open.csv", "id\n1\n")
    one, two = await boxes.start(), await boxes.start()
    (boxes.home / "cache" / two.tenant[:8] / "mine.txt").write_text("another tenant's")
    program = f"""
import os, json
home = {str(boxes.home)!r}
def reads(path):
    try:
        return len(os.listdir(path) if os.path.isdir(path) else open(path).read())
    except OSError as fault:
        return type(fault).__name__
def writes(folder):
    try:
        open(folder + "/probe", "w").write("x")
        return True
    except OSError:
        return False
print(json.dumps({{
    "home": sorted(os.listdir(home)),
    "keys": reads(home + "/keys/kek"),
    "other": reads(home + "/cache/{two.tenant[:8]}"),
    "control": reads(home + "/control.sock"),
    "shadow": reads("/etc/shadow"),
    "source": reads(home + "/imports/open.csv"),
    "root": sorted(os.listdir("/root")) if os.path.isdir("/root") else [],
    "pids": sorted(int(n) for n in os.listdir("/proc") if n.isdigit() and int(n) != os.getpid()),
    "writable": [p for p in ("/", "/usr", "/etc", home + "/imports",
                             home + "/cache/{one.tenant[:8]}", "/tmp", {str(Path.cwd())!r}) if writes(p)],
}}))
"""
    seen = json.loads(await inside(one, program))
    assert seen["home"] == ["cache", "imports"]
    assert {seen[name] for name in ("keys", "other", "control", "shadow")} == {"FileNotFoundError"}
    assert seen["source"] == len("id\n1\n")
    assert seen["pids"] == [1]
    assert seen["writable"] == [f"{boxes.home}/cache/{one.tenant[:8]}", "/tmp"]
    # At most the way to an interpreter that is installed there.
    assert set(seen["root"]) <= {
        Path(sys.base_prefix).parts[2] if sys.base_prefix.startswith("/root") else ""
    }
    assert (boxes.home / "cache" / one.tenant[:8] / "probe").read_text() == "x"


async def test_it_has_no_capabilities_no_environment_and_spaces_of_its_own(boxes: Lakes) -> None:
    lake = await boxes.start()
    await lake.configure()
    status = Path(f"/proc/{lake.pid}/status").read_text()
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert re.search(rf"^{kind}:\s*0+$", status, re.MULTILINE), status
    assert "NoNewPrivs:\t1" in status
    for space in ("pid", "ipc", "mnt", "uts"):
        assert os.readlink(f"/proc/{lake.pid}/ns/{space}") != os.readlink(f"/proc/self/ns/{space}")
    told = Path(f"/proc/{lake.pid}/environ").read_bytes().split(b"\0")
    names = {pair.partition(b"=")[0].decode() for pair in told if pair}
    assert names <= {"TOKIO_WORKER_THREADS", "LANG", "TZ", "AWS_EC2_METADATA_DISABLED", "PYTHONPATH", "PWD"}
    assert "Max core file size 0 0" in limits(lake.pid)
    assert "Max open files 1024 1024" in limits(lake.pid)


async def test_a_directory_of_the_tenants_own_is_readable_when_the_order_says_so(boxes: Lakes) -> None:
    uploads = boxes.home / "uploads"
    for name in ("mine", "theirs"):
        (uploads / name).mkdir(parents=True)
        (uploads / name / "rows.csv").write_text("id\n7\n")
    lake = await boxes.start(readable=[str(uploads / "mine")])
    mine, theirs = (dataset(name, uploads / name / "rows.csv") for name in ("mine", "theirs"))
    await lake.configure(*({**item, "roots": [str(uploads)]} for item in (mine, theirs)))
    assert await lake.rows("select * from mine") == [{"id": 7}]
    assert (await lake.sql("select * from theirs"))[0] == 502


async def test_a_deadline_that_is_overrun_ends_it(boxes: Lakes) -> None:
    lake = await boxes.start()
    await lake.configure()
    started = time.monotonic()
    with pytest.raises(Exception):  # noqa: B017 - cut, or answered with the time-out
        status, _ = await lake.sql(NESTED_LOOP, seconds=1)
        assert status == 200
    event = await boxes.host.exit_of(lake.pid, within=8)
    assert event["reason"] == "deadline"
    assert time.monotonic() - started < 8
    assert not is_alive(lake.pid)


async def test_memory_above_the_limit_ends_it(boxes: Lakes) -> None:
    lake = await boxes.start(memory=64 * MEBIBYTE)
    event = await boxes.host.exit_of(lake.pid)
    assert (event["reason"], event["status"]) == ("memory", 128 + signal.SIGKILL)


async def test_standing_still_ends_it(boxes: Lakes) -> None:
    lake = await boxes.start()
    await lake.configure()
    os.kill(lake.pid, signal.SIGSTOP)
    assert (await boxes.host.exit_of(lake.pid))["reason"] == "silent"


async def test_it_ends_in_an_orderly_way_and_with_its_host(tmp_path: Path) -> None:
    async with lakes_of(tmp_path, "--sandbox", "bwrap") as boxes:
        orderly, left = await boxes.start(), await boxes.start()
        for lake in (orderly, left):
            await lake.configure()
        await boxes.host.ask("kill", tenant=orderly.tenant, epoch=1, signal="TERM")
        event = await boxes.host.exit_of(orderly.pid)
        assert (event["reason"], event["status"]) == ("stopped", 0)
        assert is_alive(left.pid)
    assert not is_alive(left.pid)


async def test_many_lives_leave_the_host_no_descriptor(boxes: Lakes) -> None:
    pid = (await boxes.host.ask("ping"))["pid"]
    counts = []
    for _ in range(4):
        lake = await boxes.start()
        os.kill(lake.pid, signal.SIGKILL)
        await boxes.host.exit_of(lake.pid)
        counts.append(len(os.listdir(f"/proc/{pid}/fd")))
    assert len(set(counts)) == 1
