"""The data directory and who may use it: one weir at a time, its sockets in a private place with a short path."""

import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from weir.onebox.errors import OneboxError

# A socket's path may have 107 bytes (sun_path), and the longest name that we put there has some twenty.
_SOCKET_PATH_BYTES = 107
_LONGEST_SOCKET_NAME = 24


@contextmanager
def held_data_directory(data_dir: Path) -> Generator[None]:
    """Creates it and holds it for this process; the kernel lets go when we end, however we end."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data_dir / "weir.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OneboxError(
            f"The data directory {data_dir} cannot be used ({error.strerror}); set WEIR_DATA_DIR to another one."
        ) from None
    try:
        _lock_or_name_the_holder(lock, data_dir)
        yield
    finally:
        os.close(lock)


def private_run_directory(data_dir: Path) -> Path:
    """`<data dir>/run`, or a directory of this user in the temporary one where that path is too long for sockets."""
    run_dir = data_dir / "run"
    if len(os.fsencode(run_dir)) + 1 + _LONGEST_SOCKET_NAME > _SOCKET_PATH_BYTES:
        name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
        run_dir = Path(tempfile.gettempdir()) / f"weir-{os.geteuid()}-{name}"
    run_dir.mkdir(mode=0o700, exist_ok=True)
    found = run_dir.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise OneboxError(
            f"{run_dir} belongs to somebody else; remove it or set WEIR_DATA_DIR to a shorter path."
        )
    run_dir.chmod(0o700)
    return run_dir


def _lock_or_name_the_holder(lock: int, data_dir: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
        raise OneboxError(
            f"The data directory {data_dir} is in use by another weir (process {holder}); "
            "stop it or set WEIR_DATA_DIR."
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
