"""A runtime inside bubblewrap: started fresh, in a file system that holds the program, its sources and its cache.

It sees a read-only root made of the program's own directories, a `/tmp` and a `/proc` of its own, the import root
(and what else its tenant's datasets may read) read-only, and one writable directory: its cache. It has its own
process, IPC and host-name spaces, no capabilities, and dies with the host. The network stays: sources are reached
over it (docs/operations/runtimes.md).
"""

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

import msgspec

import weir
import weir_shared
from weir.lake_runtime.confine import ENVIRONMENT
from weir.lake_runtime.deadline import DeadlinePage
from weir.lake_runtime.settings import RuntimeSettings

_START_SECONDS = 5.0
_PROBE_SECONDS = 10
# What name resolution, TLS and the loader read.
_SYSTEM = (
    "/usr",
    "/bin",
    "/lib",
    "/lib64",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/ssl",
)
_SPACES = ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")


class BoxMissing(Exception):
    """The sandbox cannot be used here; the message says why."""


class Prepared:
    """One start: the command, and the descriptors that go with it."""

    def __init__(self, program: str, settings: RuntimeSettings, listener: int, page: int) -> None:
        self._order = os.memfd_create("order")
        os.write(self._order, msgspec.json.encode(settings, enc_hook=str))
        os.lseek(self._order, 0, os.SEEK_SET)
        told, tells = os.pipe()
        self._told, self._tells = os.fdopen(told, "rb", buffering=0), os.fdopen(tells, "wb", buffering=0)
        self.keep = (listener, page, self._order, tells)
        runtime = [sys.executable, "-s", "-P", "-m", "weir.lake_runtime.fresh"]
        runtime += map(str, (listener, page, self._order))
        self._command = [program, "--info-fd", str(tells), *_view(settings), *runtime]

    def enter(self) -> None:
        """Become the sandbox; in the child only."""
        for descriptor in self.keep:
            os.set_inheritable(descriptor, True)
        os.execve(self._command[0], self._command, {})  # noqa: S606 - a list of its own making, no shell

    def inner_pid(self) -> int | None:
        """The process that serves; None when the sandbox has ended without one. In the parent only."""
        self._tells.close()
        text = b""
        while select.select([self._told], [], [], _START_SECONDS)[0]:
            piece = self._told.read(4096)
            if not piece:
                return None
            text += piece
            if b"}" in text:
                return int(json.loads(text)["child-pid"])
        return None

    def close(self) -> None:
        os.close(self._order)
        self._told.close()
        self._tells.close()


class Box:
    """Starts runtimes inside bubblewrap."""

    def __init__(self, program: str) -> None:
        self._program = program

    @contextmanager
    def prepared(
        self, settings: RuntimeSettings, listener: socket.socket, page: DeadlinePage
    ) -> Generator[Prepared]:
        settings.cache_dir.mkdir(parents=True, exist_ok=True)
        prepared = Prepared(self._program, settings, listener.fileno(), page.descriptor)
        try:
            yield prepared
        finally:
            prepared.close()


def find_box() -> Box:
    """Raises BoxMissing with a sentence when bubblewrap is not there or may not make its spaces."""
    program = shutil.which("bwrap")
    if program is None:
        raise BoxMissing("bubblewrap is not installed (Debian and Ubuntu: apt-get install bubblewrap)")
    probe = [program, *_SPACES, "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    done = subprocess.run(probe, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
    if done.returncode:
        raise BoxMissing(f"bubblewrap may not make its own spaces here: {done.stderr.strip()}")
    return Box(program)


def _view(settings: RuntimeSettings) -> list[str]:
    """What the runtime sees of the machine; later entries lie over earlier ones."""
    seen = [*_SPACES, "--as-pid-1", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    for name, value in (ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(_packages())}).items():
        seen += ["--setenv", name, value]
    for path in (*_SYSTEM, *_interpreter()):
        seen += ["--ro-bind-try", path, path]
    seen += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108 - the sandbox's own
    for path in (*_packages(), *map(str, (settings.import_root, *settings.readable))):
        seen += ["--ro-bind-try", path, path]
    cache = str(settings.cache_dir)
    return [*seen, "--bind", cache, cache, "--remount-ro", "/", "--chdir", "/tmp", "--"]  # noqa: S108


def _interpreter() -> list[str]:
    executable = Path(sys.executable)
    homes = (sys.prefix, sys.base_prefix, sys.exec_prefix, str(executable.resolve().parents[1]))
    return _apart(home for home in homes if home != "/usr")


def _packages() -> list[str]:
    """Where this program and what it is made of lie; never a whole working directory."""
    own = [str(Path(package.__path__[0]).parent) for package in (weir, weir_shared)]
    return _apart([*own, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])


def _apart(paths: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(paths))
