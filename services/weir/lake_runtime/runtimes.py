"""The host's runtimes: start one, watch its memory, deadline and signs of life, collect it when it ends."""

import contextlib
import math
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NoReturn

from msgspec import Struct

from weir.lake_runtime.box import Box
from weir.lake_runtime.confine import STOPPING, confine, resident_bytes
from weir.lake_runtime.deadline import DeadlinePage
from weir.lake_runtime.settings import RuntimeSettings

Serve = Callable[[RuntimeSettings, socket.socket, DeadlinePage], None]

_BACKLOG = 128
# What the watch has found; a stop that is under way is outweighed by it.
_FOUND = ("memory", "deadline", "silent")


class HostError(Exception):
    """What the control socket answers instead of `ok`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Runtime(Struct):
    """One child process of the host."""

    tenant: str
    epoch: int
    pid: int
    socket: Path
    memory_limit_bytes: int
    page: DeadlinePage
    started: float
    """Unix time."""
    ended_for: str = ""
    """Why the host has ended it: memory, deadline, silent, stopped, or replaced while it ends its answers."""
    is_current: bool = True
    """False once a newer epoch has taken its tenant, or may."""
    watched: int = 0
    """The process that serves: `pid` itself, or inside the box that `pid` keeps."""
    until: float = math.inf
    """When one that was let go is ended; the monotonic clock."""


class Exit(Struct, frozen=True):
    event: str
    tenant: str
    epoch: int
    pid: int
    reason: str
    status: int


class Runtimes:
    """All children by pid; at most one of a tenant is current."""

    def __init__(
        self, serve: Serve, *, grace_seconds: float, silence_seconds: float, box: Box | None = None
    ) -> None:
        """`box`: what starts a runtime fresh inside a sandbox; None: it is forked."""
        self._serve = serve
        self._box = box
        self._grace = grace_seconds
        self._silence = silence_seconds
        self._looked = time.monotonic()
        self._by_pid: dict[int, Runtime] = {}

    def __len__(self) -> int:
        return len(self._by_pid)

    def all(self) -> list[Runtime]:
        return list(self._by_pid.values())

    def current(self, tenant: str) -> Runtime | None:
        return next((r for r in self._by_pid.values() if r.tenant == tenant and r.is_current), None)

    def spawn(self, settings: RuntimeSettings, path: Path) -> Runtime:
        """Start a tenant's runtime; the living one of the same epoch is the answer to a second request.

        Raises `HostError` `stale_epoch` when a newer one lives, `socket_failed` when it cannot be bound.
        """
        known = self.current(settings.tenant)
        if known is not None and known.ended_for == "":
            if known.epoch == settings.epoch:
                return known
            if known.epoch > settings.epoch:
                raise HostError("stale_epoch", f"Epoch {known.epoch} of this tenant is running.")
        if known is not None:
            self._replace(known)
        listener = _listen(path)
        page = DeadlinePage()
        try:
            pid, watched = self._start(settings, listener, page)
        except BaseException:
            page.close()
            path.unlink(missing_ok=True)
            raise
        finally:
            listener.close()
        runtime = Runtime(
            tenant=settings.tenant,
            epoch=settings.epoch,
            pid=pid,
            watched=watched,
            socket=path,
            memory_limit_bytes=settings.memory_limit_bytes,
            page=page,
            started=time.time(),
        )
        self._by_pid[pid] = runtime
        return runtime

    def kill(self, tenant: str, epoch: int, number: signal.Signals) -> bool:
        """Signal a tenant's runtime; False when it has none. Raises `HostError` for another epoch."""
        runtime = self.current(tenant)
        if runtime is None:
            return False
        if runtime.epoch != epoch:
            raise HostError("stale_epoch", f"Epoch {runtime.epoch} of this tenant is running.")
        self.end(runtime, "stopped", number)
        return True

    def let_go(self, tenant: str, epoch: int, seconds: float) -> bool:
        """Make room for a newer epoch without ending this one yet: it takes no more queries and ends its answers.

        False when there is no such runtime.
        """
        runtime = self.current(tenant)
        if runtime is None or runtime.epoch != epoch:
            return False
        runtime.ended_for = runtime.ended_for or "replaced"
        runtime.is_current = False
        runtime.until = time.monotonic() + seconds
        return True

    def end(self, runtime: Runtime, reason: str, number: signal.Signals = signal.SIGKILL) -> None:
        runtime.ended_for = runtime.ended_for or reason
        with contextlib.suppress(ProcessLookupError):
            os.kill(runtime.watched, number)

    def look(self) -> None:
        """End what is over its memory, past its deadline and the grace, or gives no sign of life.

        All is compared with the moment at which the look began: this process may stand still in the middle of it.
        """
        now = time.monotonic()
        if now - self._looked > self._silence / 3:
            # This process stood still, perhaps with all of its machine: nobody's silence counts.
            for runtime in self._by_pid.values():
                runtime.page.beat()
        self._looked = now
        for runtime in self._by_pid.values():
            if runtime.ended_for in _FOUND:
                continue
            deadline = runtime.page.read()
            if deadline and now > deadline + self._grace:
                self._end_for(runtime, "deadline")
            elif resident_bytes(runtime.watched) > runtime.memory_limit_bytes:
                self._end_for(runtime, "memory")
            elif runtime.page.silent_seconds(now) > self._silence:
                self._end_for(runtime, "silent")
            elif now > runtime.until:
                self.end(runtime, "replaced")

    def reap(self) -> list[Exit]:
        """Collect the children that have ended."""
        exits: list[Exit] = []
        for pid in list(self._by_pid):
            with contextlib.suppress(ChildProcessError):
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    exits.append(self._forget(pid, os.waitstatus_to_exitcode(status)))
        return exits

    def _end_for(self, runtime: Runtime, reason: str) -> None:
        runtime.ended_for = reason  # a cause found by the watch outweighs a stop that is under way
        self.end(runtime, reason)

    def _replace(self, runtime: Runtime) -> None:
        runtime.is_current = False
        self.end(runtime, "stopped")

    def _forget(self, pid: int, status: int) -> Exit:
        runtime = self._by_pid.pop(pid)
        runtime.page.close()
        if all(other.socket != runtime.socket for other in self._by_pid.values()):
            runtime.socket.unlink(missing_ok=True)
        reason = runtime.ended_for or ("stopped" if status == 0 else "crash")
        return Exit("exit", runtime.tenant, runtime.epoch, runtime.watched, reason, status)

    def _start(
        self, settings: RuntimeSettings, listener: socket.socket, page: DeadlinePage
    ) -> tuple[int, int]:
        """The child's process id, and that of the process to watch. Raises `HostError` `spawn_failed`."""
        if self._box is None:
            keep = (listener.fileno(), page.descriptor)
            pid = _fork(settings, keep, lambda: self._serve(settings, listener, page))
            return pid, pid
        with self._box.prepared(settings, listener, page) as prepared:
            pid = _fork(settings, prepared.keep, prepared.enter)
            inner = prepared.inner_pid()
        if inner is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise HostError("spawn_failed", "The sandbox did not start; the host's log says why.")
        return pid, inner


def _fork(settings: RuntimeSettings, keep: Collection[int], become: Callable[[], None]) -> int:
    parent = os.getpid()
    # A signal for the child must not meet the host's handlers, which it has until it is confined.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        pid = os.fork()
        if pid == 0:
            _live(settings, keep, become, parent)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _live(
    settings: RuntimeSettings, keep: Collection[int], become: Callable[[], None], parent: int
) -> NoReturn:
    """The child's whole life; it never returns into the host's loop."""
    status = 1
    try:
        confine(parent=parent, keep=keep, memory_limit_bytes=settings.memory_limit_bytes)
        become()
        status = 0
    except BaseException:  # noqa: BLE001 - the process boundary: report and end
        traceback.print_exc()
    finally:
        os._exit(status)


def _listen(path: Path) -> socket.socket:
    """A socket that takes connections from now on, so that a client need not wait for the fork."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise HostError(
            "socket_failed", f"The socket could not be bound: {error.strerror or error}"
        ) from None
    finally:
        os.umask(before)
    return listener
