"""What a forked runtime still has of its host: nothing but what it needs."""

import json
import subprocess
import sys

SCRIPT = """
import json, os, signal, sys
from weir.lake_runtime.confine import confine

os.environ["AWS_SECRET_ACCESS_KEY"] = "ambient"
kept = os.open("/dev/zero", os.O_RDONLY)
other = os.open("/dev/zero", os.O_RDONLY)
parent = os.getpid()
pid = os.fork()
if pid == 0:
    confine(parent=parent, keep=(kept,), memory_limit_bytes=1 << 30)
    found = sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1]
    print(json.dumps({"environ": dict(os.environ), "files": found, "kept": kept,
                      "stdin": os.readlink("/proc/self/fd/0")}), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""


def test_a_child_keeps_one_descriptor_and_none_of_the_environment() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True, text=True)
    child = json.loads(done.stdout)
    assert child["environ"] == {
        "TOKIO_WORKER_THREADS": "8",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    assert child["files"] == [0, 1, 2, child["kept"]]
    assert child["stdin"] == "/dev/null"
