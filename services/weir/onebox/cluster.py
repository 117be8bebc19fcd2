"""The files of the embedded Postgres: made once, checked at every start, owned by the user as whom it runs."""

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from weir.onebox.binaries import POSTGRES_MAJOR, SERVER_ENVIRONMENT
from weir.onebox.child import Command, ServerUser, run_to_end
from weir.onebox.errors import OneboxError

_PASSWORD_FILE = "weir_password"  # noqa: S105 (the name of a file)
_LEFTOVER_PATIENCE_SECONDS = 10.0
_WAY_OUT = "restore it from a backup, or move it away to begin with an empty database"

# The server finds its files through its working directory, which we enter for it before it gives up our rights: its
# own user need not be able to walk there (a data directory below root's home). It insists on an absolute path.
SELF_DIRECTORY = "/proc/self/cwd"


def server_user(directory: Path) -> ServerUser | None:
    """None: ourselves. As root: who owns the files already, else `nobody`, since Postgres refuses to be root."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(FileNotFoundError):
        owner = directory.stat()
        if owner.st_uid != 0:
            return ServerUser(uid=owner.st_uid, gid=owner.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise OneboxError(
            "Postgres does not run as root and there is no user `nobody` here; "
            "start weir as an ordinary user or set WEIR_DATABASE_URL."
        ) from None
    return ServerUser(uid=nobody.pw_uid, gid=nobody.pw_gid)


def data_argument(directory: Path) -> str:
    return SELF_DIRECTORY if sys.platform == "linux" else str(directory)


async def create_cluster(directory: Path, programs: Path, user: ServerUser | None, log: Path) -> None:
    """initdb, the superuser `weir` and its database; the directory appears under its name when it is whole."""
    unfinished = directory.with_name(directory.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if user:
        os.chown(unfinished, user.uid, user.gid)
    password = secrets.token_urlsafe(24)
    data = data_argument(unfinished)
    initdb = (
        *(
            str(programs / "initdb"),
            "-D",
            data,
            "--username=weir",
            "--auth=scram-sha-256",
            "--pwfile=/dev/stdin",
        ),
        # Sorts as C does; knows the letters beyond ASCII, which plain C does not (lower, upper, full text).
        *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    )
    single = (str(programs / "postgres"), "--single", "-D", data, "-c", "exit_on_error=on", "postgres")
    for argv, text in ((initdb, password), (single, "create database weir")):
        command = Command(argv=argv, environment=SERVER_ENVIRONMENT, log=log, directory=unfinished, user=user)
        with _readable_text(text, user) as stdin:
            ended = await run_to_end(command, stdin)
        if ended.returncode != 0:
            raise OneboxError(
                f"The database in {directory} could not be created: {ended.last_words()} The log is {log}."
            )
    _write_password(unfinished / _PASSWORD_FILE, password, user)
    unfinished.rename(directory)
    _sync(directory.parent)


def read_password(directory: Path) -> str:
    """Looks at the files first: damage is told apart here, since the server's own words help nobody."""
    try:
        version = (directory / "PG_VERSION").read_text(errors="replace").strip()
        password = (directory / _PASSWORD_FILE).read_text().strip()
    except (FileNotFoundError, NotADirectoryError) as error:
        missing = Path(error.filename).name
        raise OneboxError(
            f"The database directory {directory} is damaged ({missing} is missing); {_WAY_OUT}."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise OneboxError(
            f"The database directory {directory} cannot be read ({error}); {_WAY_OUT}."
        ) from None
    if not version.isdecimal() or not password:
        raise OneboxError(
            f"The database directory {directory} is damaged (PG_VERSION is not a version); {_WAY_OUT}."
        )
    if int(version) != POSTGRES_MAJOR:
        raise OneboxError(
            f"The database directory {directory} was written by PostgreSQL {version} and this weir brings "
            f"{POSTGRES_MAJOR}; run the weir that wrote it, or move it away to begin with an empty database."
        )
    return password


async def clear_leftovers(directory: Path) -> None:
    """After a kill -9: waits for the processes of that server, then removes the lock file that it left.

    The file names a process number. By now that may be a stranger, whom Postgres would take for itself; so we look
    who works in the directory instead. Safe because the data directory of weir is held by us alone.
    """
    if sys.platform != "linux":
        return
    deadline = asyncio.get_running_loop().time() + _LEFTOVER_PATIENCE_SECONDS
    while pids := list(_postgres_processes_in(directory)):
        if asyncio.get_running_loop().time() > deadline:
            raise OneboxError(
                f"A database process ({pids[0]}) of an earlier weir still works in {directory}; end it first."
            )
        await asyncio.sleep(0.05)
    (directory / "postmaster.pid").unlink(missing_ok=True)


def is_ready(directory: Path) -> bool:
    """The server's own word, as pg_ctl reads it: the eighth line of postmaster.pid."""
    try:
        lines = (directory / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) > 7 and lines[7].strip() == "ready"


def _postgres_processes_in(directory: Path) -> Iterator[int]:
    here = directory.stat()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            cwd = (process / "cwd").stat()
            works_here = (cwd.st_dev, cwd.st_ino) == (here.st_dev, here.st_ino)
            if works_here and (process / "comm").read_text().strip() == "postgres":
                yield int(process.name)


@contextmanager
def _readable_text(text: str, user: ServerUser | None) -> Generator[int]:
    """A pipe that holds one line: a password on a command line would be public."""
    reading, writing = os.pipe()
    try:
        if user:
            os.fchown(reading, user.uid, user.gid)  # /dev/stdin opens it anew, as that user
        os.write(writing, text.encode() + b"\n")
        os.close(writing)
        yield reading
    finally:
        os.close(reading)


def _write_password(file: Path, password: str, user: ServerUser | None) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, password.encode())
        if user:
            os.fchown(descriptor, user.uid, user.gid)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _sync(file.parent)


def _sync(directory: Path) -> None:
    """Makes a new or renamed entry survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
