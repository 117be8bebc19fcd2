"""The embedded Postgres: durable, on loopback with a password, a child of ours."""

import os
import signal
from pathlib import Path

from weir.onebox import cluster
from weir.onebox.binaries import SERVER_ENVIRONMENT, find_postgres
from weir.onebox.child import Command, ServerUser
from weir.onebox.errors import OneboxError
from weir.onebox.ports import free_ports
from weir.onebox.supervisor import SERVERS_STOP, Service


class EmbeddedPostgres:
    """`data_dir` and `run_dir` are weir's own; the caller holds them (`directories.held_data_directory`)."""

    def __init__(self, data_dir: Path, run_dir: Path, port: int | None = None) -> None:
        self._directory = data_dir / "postgres"
        self._log = data_dir / "logs" / "postgres.log"
        self._run_dir = run_dir
        self._port = port or free_ports(1)[0]
        self._user: ServerUser | None = None
        self._programs = Path()
        self._password = ""

    @property
    def dsn(self) -> str:
        """Known once it is prepared."""
        return f"postgresql://weir:{self._password}@127.0.0.1:{self._port}/weir"

    async def prepare(self) -> None:
        """Creates the database on the first start; OneboxError when its directory cannot be used."""
        self._user = cluster.server_user(self._directory)
        self._programs = find_postgres(self._user)
        try:
            if not self._directory.exists() or _is_empty_directory(self._directory):
                await cluster.create_cluster(self._directory, self._programs, self._user, self._log)
            self._password = cluster.read_password(self._directory)
        except OSError as error:
            raise OneboxError(f"The database directory {self._directory} cannot be used: {error}.") from error

    def service(self) -> Service:
        return Service(
            name="postgres",
            command=Command(
                argv=(
                    str(self._programs / "postgres"),
                    "-D",
                    cluster.data_argument(self._directory),
                    *self._settings(),
                ),
                environment=SERVER_ENVIRONMENT,
                log=self._log,
                directory=self._directory,
                user=self._user,
                # SIGTERM would make it wait for its clients, who in turn need it to finish what they do.
                own_group=True,
                # Its immediate shutdown: no backend and no shared memory is left, and the log replays at the next start.
                kill_signal=signal.SIGQUIT,
            ),
            before_start=lambda: cluster.clear_leftovers(self._directory),
            ready=self._is_ready,
            stop_signal=signal.SIGINT,  # fast: ends the sessions, writes a checkpoint
            start_attempts=1,
            stop_order=SERVERS_STOP,
            advice=f"If {self._directory} is damaged, restore it from a backup or move it away.",
        )

    async def _is_ready(self) -> bool:
        return cluster.is_ready(self._directory)

    def _settings(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": self._socket_directory(),
            "max_connections": "200",
            # Pages are taken when they are first used: a server at rest holds a few of them.
            "shared_buffers": "256MB",
            "max_wal_size": "512MB",
        }
        return [f"--{name}={value}" for name, value in settings.items()]

    def _socket_directory(self) -> str:
        """A convenience for psql; every part of weir connects over TCP, so a user who cannot walk there has none."""
        if self._user is not None:
            return ""
        # Left by a server that was killed: their lock files name processes that may be strangers by now.
        for stale in self._run_dir.glob(".s.PGSQL.*"):
            stale.unlink(missing_ok=True)
        return str(self._run_dir)


def _is_empty_directory(directory: Path) -> bool:
    return directory.is_dir() and not any(os.scandir(directory))
