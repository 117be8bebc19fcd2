"""What a new process takes off before it becomes a runtime: files, environment, signals, limits."""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Collection
from pathlib import Path

GIBIBYTE = 1024**3
_PR_SET_PDEATHSIG = 1
_PR_SET_THP_DISABLE = 41
# mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT_FREE_BYTES = 16 * 1024 * 1024
STOPPING = (signal.SIGTERM, signal.SIGINT)
_libc = ctypes.CDLL(None, use_errno=True)

# Below the services of its machine: a statement takes every processor that is free, and whoever hands statements in,
# refuses them or does something else meanwhile is waited for by people.
_NICENESS = 5

# Two statements that ignore their cancellation must not take every engine thread.
ENVIRONMENT = {
    "TOKIO_WORKER_THREADS": "8",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def confine(*, parent: int, keep: Collection[int], memory_limit_bytes: int) -> None:
    """Leave only the standard streams and the descriptors to keep; die with the parent."""
    _die_with(parent)
    os.nice(_NICENESS)
    # Huge pages give every runtime 50 MB that it does not use.
    _libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    keep_buffers()
    _reset_signals()
    _close_others(keep)
    os.environ.clear()
    os.environ.update(ENVIRONMENT)
    _limit(memory_limit_bytes)


def _die_with(parent: int) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # The parent died before the signal was asked for.
        os._exit(1)


def keep_buffers() -> None:
    """Let freed answer buffers be used again: given back to the system, each costs its page faults anew.

    A third of the time of a long answer went there.
    """
    _libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_FREE_BYTES // 2)
    _libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE_BYTES)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)
    # Blocked by the host for the time of the fork.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _close_others(keep: Collection[int]) -> None:
    """Close what the host has open. Its objects stay referenced by the frames below, so none closes twice."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are all that is wanted
        descriptor = int(name)
        if descriptor > 2 and descriptor not in keep:
            try:
                os.close(descriptor)
            except OSError:
                continue  # the directory's own descriptor, closed by now
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, sys.__stdin__.fileno() if sys.__stdin__ else 0)
    os.close(null)


def _limit(memory_limit_bytes: int) -> None:
    # An idle engine maps 2.5 GB: a tight limit makes it hang, this one only stops a single huge request.
    address_space = max(6 * GIBIBYTE, memory_limit_bytes + 4 * GIBIBYTE)
    _lower(resource.RLIMIT_AS, address_space)
    _lower(resource.RLIMIT_NOFILE, 1024)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(kind: int, limit: int) -> None:
    hard = resource.getrlimit(kind)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (limit, limit))


def resident_bytes(pid: int) -> int:
    """The resident set of a process, pages shared with its host included; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
