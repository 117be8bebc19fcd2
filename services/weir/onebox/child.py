"""One child process: it writes to its own log, and it does not outlive us, however we end."""

import asyncio
import contextlib
import ctypes
import os
import signal
from functools import partial
from pathlib import Path

from msgspec import Struct

from weir.onebox.errors import OneboxError

_PR_SET_PDEATHSIG = 1
_KILL_PATIENCE_SECONDS = 6.0  # Postgres gives its own children 5 s before it kills them
_LOG_BYTES_KEPT = 1 << 20


class ServerUser(Struct, frozen=True, kw_only=True):
    """Whom a server runs as when we are root and it refuses to be."""

    uid: int
    gid: int


class Command(Struct, frozen=True, kw_only=True):
    """How a child is started, and how it is ended when it must be at once."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    log: Path
    directory: Path | None = None
    user: ServerUser | None = None
    # A signal to our process group (Ctrl-C, a supervisor's SIGTERM) then passes it by: only we end it, in our order.
    own_group: bool = False
    # Sent when we die, when it ignores its grace, and when the operator insists.
    kill_signal: int = signal.SIGKILL


class Child:
    """A started process."""

    def __init__(self, process: asyncio.subprocess.Process, command: Command, log_start: int) -> None:
        self._process = process
        self._command = command
        self._log_start = log_start

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    async def wait(self) -> int:
        return await self._process.wait()

    async def stop(self, stop_signal: int, grace_seconds: float) -> None:
        """Ask, insist, kill; returns when it is gone."""
        for number, patience in (
            (stop_signal, grace_seconds),
            (self._command.kill_signal, _KILL_PATIENCE_SECONDS),
            (signal.SIGKILL, None),
        ):
            if self.returncode is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self.wait()

    async def kill(self) -> None:
        await self.stop(self._command.kill_signal, _KILL_PATIENCE_SECONDS)

    def last_words(self) -> str:
        """The line of its log that most likely says why it ended; empty when it wrote nothing."""
        return _telling_line(_read_from(self._command.log, self._log_start))


async def start_child(command: Command, stdin: int = asyncio.subprocess.DEVNULL) -> Child:
    """Must be called from the main thread: the kernel's death signal follows the thread that forked."""
    try:
        command.log.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OneboxError(f"{command.log.parent} is no directory; move it away.") from None
    try:
        with command.log.open("ab") as log:
            log_start = log.tell()  # before the start: the child moves this position too
            process = await asyncio.create_subprocess_exec(
                *command.argv,
                stdin=stdin,
                stdout=log,
                stderr=log,
                cwd=command.directory,
                env=command.environment,
                preexec_fn=partial(_die_with_parent, command.kill_signal, os.getpid()),
                process_group=0 if command.own_group else None,
                user=command.user.uid if command.user else None,
                group=command.user.gid if command.user else None,
                extra_groups=() if command.user else None,
            )
            return Child(process, command, log_start)
    except OSError as error:
        raise OneboxError(f"{command.argv[0]} could not be started: {error.strerror or error}.") from error


async def run_to_end(command: Command, stdin: int = asyncio.subprocess.DEVNULL) -> Child:
    """Runs it and waits; a caller that is cancelled leaves no process behind."""
    child = await start_child(command, stdin)
    try:
        await child.wait()
    finally:
        await child.kill()
    return child


def ending(returncode: int) -> str:
    """`exit code 3` or `SIGKILL`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


def rotate_log(log: Path) -> None:
    """Keeps one previous file; called before a platform starts, never while it runs."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_BYTES_KEPT:
            log.replace(log.with_name(log.name + ".1"))


# Loaded before any fork: the child may do no more than the call itself.
_prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux only


def _die_with_parent(kill_signal: int, parent: int) -> None:
    """Runs in the child, after the change of user (which would clear the setting) and before exec (which keeps it)."""
    if _prctl is None:
        return
    _prctl(_PR_SET_PDEATHSIG, kill_signal, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call
        os.kill(os.getpid(), signal.SIGKILL)


def _read_from(log: Path, start: int) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - 65_536))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _telling_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fatal = [line for line in lines if "FATAL:" in line or "PANIC:" in line]
    line = (fatal or lines or [""])[-1]
    for mark in ("FATAL:", "PANIC:"):
        line = line.partition(mark)[2].strip() or line
    return line[:300]
