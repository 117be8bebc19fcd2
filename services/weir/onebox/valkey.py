"""The embedded Valkey: append-only, on loopback with a password of this start, a child of ours."""

import os
import secrets
from pathlib import Path

from weir.onebox.binaries import SERVER_ENVIRONMENT, find_valkey
from weir.onebox.child import Command
from weir.onebox.ports import free_ports
from weir.onebox.probes import valkey_answers
from weir.onebox.supervisor import SERVERS_STOP, Service


class EmbeddedValkey:
    """`data_dir` and `run_dir` are weir's own; the caller holds them (`directories.held_data_directory`)."""

    def __init__(self, data_dir: Path, run_dir: Path, port: int | None = None) -> None:
        self._directory = data_dir / "valkey"
        self._log = data_dir / "logs" / "valkey.log"
        self._configuration = run_dir / "valkey.conf"
        self._port = port or free_ports(1)[0]
        self._password = secrets.token_urlsafe(24)
        self._program = Path()

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    async def prepare(self) -> None:
        self._program = find_valkey()
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._configuration.unlink(missing_ok=True)
        descriptor = os.open(self._configuration, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self._settings())

    def service(self) -> Service:
        return Service(
            name="valkey",
            command=Command(
                argv=(str(self._program), str(self._configuration)),
                environment=SERVER_ENVIRONMENT,
                log=self._log,
                directory=self._directory,
                own_group=True,
            ),
            ready=lambda: valkey_answers(self.url),
            start_attempts=1,
            stop_order=SERVERS_STOP,
            advice=f"It keeps a queue that Postgres can rebuild: if {self._directory} is damaged, move it away.",
        )

    def _settings(self) -> str:
        # A file and not arguments, which every user of the machine can read.
        return f"""\
bind 127.0.0.1
port {self._port}
requirepass {self._password}
appendonly yes
save ""
maxmemory-policy noeviction
"""
