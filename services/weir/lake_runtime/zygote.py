"""The lake host: a process with the engine loaded and not started, which forks a tenant's runtime on request.

It is single-threaded and synchronous, because only such a process may fork safely: the engine's own
threads start in the child. It listens on a unix socket (mode 0600) and speaks JSON lines: one request a
line, one reply a line, in order, for any number of clients. A reply is `{"ok": true, …}` or
`{"ok": false, "error": code, "message": sentence}`.

- `{"op": "ping"}` → `{"ok": true, "pid", "runtimes": n}`
- `{"op": "spawn", "tenant", "epoch", "socket", "memoryLimitBytes", "cacheDir", "importRoot", "secret",
  "allowPrivate", "keptTablesBytes"}` → `{"ok": true, "pid"}`. The socket accepts connections when the reply leaves. The
  same epoch again is answered with the living process; an older one is killed first; a newer one living
  is the error `stale_epoch`. Other errors: `invalid_request`, `socket_failed`.
- `{"op": "kill", "tenant", "epoch", "signal": "TERM" | "KILL"}` → `{"ok": true, "found": bool}`, or
  `stale_epoch` when another epoch lives. The process is gone when its exit event says so.
- `{"op": "letGo", "tenant", "epoch", "seconds"}` → `{"ok": true, "found": bool}`: a newer epoch may be started
  beside this one, which ends its answers and is killed after so many seconds.
- `{"op": "list"}` → `{"ok": true, "runtimes": [{"tenant", "epoch", "pid", "socket", "rssBytes",
  "started", "endedFor"}]}`; `started` is Unix time, `endedFor` is "" or the reason it is being ended for.
- `{"op": "watch"}` → `{"ok": true}`, then one line for each exit: `{"event": "exit", "tenant", "epoch",
  "pid", "reason": "deadline" | "memory" | "silent" | "crash" | "stopped" | "replaced", "status"}`; `status` is
  the exit code, or minus the signal.

Every 100 ms it looks at each child: resident memory over `memoryLimitBytes`, a deadline passed by more than
a second and 15 s without a sign of life end it by SIGKILL. On SIGTERM it ends its children and exits 0.

With `--sandbox bwrap` a runtime is not forked but started fresh inside bubblewrap (`box.py`).
"""

import argparse
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from weir.lake_runtime.box import find_box
from weir.lake_runtime.confine import resident_bytes
from weir.lake_runtime.runtimes import HostError, Runtimes
from weir.lake_runtime.serve import serve
from weir.lake_runtime.settings import RuntimeSettings

_MAX_LINE = 64 * 1024
_MAX_OUTBOX = 1024 * 1024


class HostSettings(Struct, frozen=True, kw_only=True):
    control_socket: Path
    look_seconds: float = 0.1
    """How often the children's memory and deadlines are looked at."""
    grace_seconds: float = 1.0
    """How long a runtime may overrun its deadline before it is killed."""
    silence_seconds: float = 15.0
    """How long a runtime may give no sign of life before it is killed."""
    sandbox: Literal["none", "bwrap"] = "none"
    stop_seconds: float = 5.0
    """How long the children get to drain when the host is told to stop."""


class Spawn(Struct, tag_field="op", tag="spawn", rename="camel", kw_only=True):
    tenant: str
    epoch: int
    socket: str
    memory_limit_bytes: int
    cache_dir: str
    import_root: str
    secret: str
    allow_private: bool = False
    readable: list[str] = []
    """Directories besides the import root that datasets may read; a sandbox shows no others."""
    kept_tables_bytes: int = 0


class Kill(Struct, tag_field="op", tag="kill"):
    tenant: str
    epoch: int
    signal: Literal["TERM", "KILL"] = "TERM"


class LetGo(Struct, tag_field="op", tag="letGo"):
    tenant: str
    epoch: int
    seconds: float = 180.0


class List(Struct, tag_field="op", tag="list"):
    pass


class Ping(Struct, tag_field="op", tag="ping"):
    pass


class Watch(Struct, tag_field="op", tag="watch"):
    pass


_decoder = msgspec.json.Decoder(Spawn | Kill | LetGo | List | Ping | Watch)


def main(settings: HostSettings) -> None:
    """Serve until SIGTERM or SIGINT; returns when every child has ended."""
    # What is loaded by now is shared with every child: keep the collector from touching it.
    gc.collect()
    gc.freeze()
    Host(settings).run()


class Client:
    """One connection to the control socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.is_watching = False


class Host:
    """The loop: control requests, children's exits, and the look at their memory and deadlines."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings
        self._runtimes = Runtimes(
            serve,
            grace_seconds=settings.grace_seconds,
            silence_seconds=settings.silence_seconds,
            box=find_box() if settings.sandbox == "bwrap" else None,
        )
        self._selector = selectors.DefaultSelector()
        self._clients: set[Client] = set()
        self._is_stopping = False

    def run(self) -> None:
        listener = self._open()
        try:
            while not self._is_stopping:
                self._turn()
        finally:
            self._selector.unregister(listener)
            listener.close()
            self._settings.control_socket.unlink(missing_ok=True)
            self._stop_children()

    def _open(self) -> socket.socket:
        path = self._settings.control_socket
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._listen_to_signals()
        return listener

    def _listen_to_signals(self) -> None:
        """Signals only wake the loop; it looks for itself what has happened."""
        self._wake, sender = socket.socketpair()
        self._wake.setblocking(False)
        sender.setblocking(False)
        self._sender = sender  # kept: the wake-up descriptor lives as long as the host
        signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        self._selector.register(self._wake, selectors.EVENT_READ, self._woken)

    def _ask_to_stop(self, *_: object) -> None:
        self._is_stopping = True

    def _woken(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake.recv(4096)

    def _turn(self) -> None:
        timeout = self._settings.look_seconds if len(self._runtimes) else None
        for key, mask in self._selector.select(timeout):
            key.data(mask)
        self._runtimes.look()
        self._report_exits()

    def _report_exits(self) -> None:
        for exit_ in self._runtimes.reap():
            line = msgspec.json.encode(exit_) + b"\n"
            for client in [c for c in self._clients if c.is_watching]:
                self._send(client, line)

    def _accept(self, _: int) -> None:
        for key in list(self._selector.get_map().values()):
            if key.data == self._accept:
                connection, _address = key.fileobj.accept()  # type: ignore[union-attr]
                connection.setblocking(False)
                client = Client(connection)
                self._clients.add(client)
                self._selector.register(connection, selectors.EVENT_READ, partial(self._serve, client))

    def _serve(self, client: Client, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._send(client, b"")
        if mask & selectors.EVENT_READ and client in self._clients:
            self._receive(client)

    def _receive(self, client: Client) -> None:
        try:
            received = client.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received or len(client.inbox) > _MAX_LINE:
            self._drop(client)
            return
        client.inbox += received
        while client in self._clients and (end := client.inbox.find(b"\n")) >= 0:
            line = bytes(client.inbox[:end])
            del client.inbox[: end + 1]
            self._send(client, json.dumps(self._answer(client, line)).encode() + b"\n")

    def _answer(self, client: Client, line: bytes) -> dict[str, Any]:
        try:
            return {"ok": True, **self._do(client, _decoder.decode(line))}
        except HostError as error:
            return {"ok": False, "error": error.code, "message": error.message}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return {"ok": False, "error": "invalid_request", "message": str(error)}
        except OSError as error:
            return {"ok": False, "error": "spawn_failed", "message": str(error)}

    def _do(self, client: Client, request: Spawn | Kill | LetGo | List | Ping | Watch) -> dict[str, Any]:
        match request:
            case Spawn():
                return {"pid": self._runtimes.spawn(_runtime_settings(request), Path(request.socket)).watched}
            case Kill(tenant=tenant, epoch=epoch):
                number = signal.SIGKILL if request.signal == "KILL" else signal.SIGTERM
                return {"found": self._runtimes.kill(tenant, epoch, number)}
            case LetGo(tenant=tenant, epoch=epoch, seconds=seconds):
                return {"found": self._runtimes.let_go(tenant, epoch, seconds)}
            case List():
                return {"runtimes": self._list()}
            case Ping():
                return {"pid": os.getpid(), "runtimes": len(self._runtimes)}
            case Watch():
                client.is_watching = True
                return {}

    def _list(self) -> list[dict[str, Any]]:
        return [
            {
                "tenant": r.tenant,
                "epoch": r.epoch,
                "pid": r.watched,
                "socket": str(r.socket),
                "rssBytes": resident_bytes(r.watched),
                "started": r.started,
                "endedFor": r.ended_for,
            }
            for r in self._runtimes.all()
        ]

    def _send(self, client: Client, line: bytes) -> None:
        """Write what fits; the rest goes when the client reads. One that never reads is dropped."""
        client.outbox += line
        try:
            while client.outbox:
                del client.outbox[: client.connection.send(client.outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        if len(client.outbox) > _MAX_OUTBOX:
            self._drop(client)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.outbox else 0)
        key = self._selector.get_key(client.connection)
        self._selector.modify(client.connection, wanted, key.data)

    def _drop(self, client: Client) -> None:
        self._clients.discard(client)
        self._selector.unregister(client.connection)
        client.connection.close()

    def _stop_children(self) -> None:
        for runtime in self._runtimes.all():
            self._runtimes.end(runtime, "stopped", signal.SIGTERM)
        until = time.monotonic() + self._settings.stop_seconds
        while len(self._runtimes) and time.monotonic() < until:
            self._selector.select(self._settings.look_seconds)
            self._woken(0)
            self._report_exits()
        for runtime in self._runtimes.all():
            self._runtimes.end(runtime, "stopped")
        while len(self._runtimes):
            self._report_exits()
            time.sleep(0.01)


def _ignore(*_: object) -> None:
    """The wake-up descriptor has told already."""


def _runtime_settings(request: Spawn) -> RuntimeSettings:
    return RuntimeSettings(
        tenant=request.tenant,
        epoch=request.epoch,
        secret=request.secret,
        memory_limit_bytes=request.memory_limit_bytes,
        cache_dir=Path(request.cache_dir),
        import_root=Path(request.import_root),
        allow_private=request.allow_private,
        readable=[Path(path) for path in request.readable],
        most_kept_bytes=request.kept_tables_bytes,
    )


def _main() -> int:
    parser = argparse.ArgumentParser(prog="lake-host", description="Host of the tenants' lake runtimes.")
    parser.add_argument("--socket", type=Path, required=True, help="where the control socket is made")
    parser.add_argument("--sandbox", choices=("none", "bwrap"), default="none")
    parser.add_argument("--silence-seconds", type=float, default=15.0)
    arguments = parser.parse_args()
    main(
        HostSettings(
            control_socket=arguments.socket,
            sandbox=arguments.sandbox,
            silence_seconds=arguments.silence_seconds,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(_main())
