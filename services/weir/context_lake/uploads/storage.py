"""Where uploaded files lie: `<data dir>/uploads/<tenant>`, and in `incoming` under it while they are not kept yet.

A file that comes in is locked by the process that writes it until its row is there. The kernel lets go of the lock
however that process ends, so that whoever can lock a file without a row knows that it is nobody's.
"""

import errno
import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from weir_shared.errors import Unavailable

INCOMING = "incoming"
# Between making a file and locking it; a lock that a network's file system does not keep is covered too.
UNLOCKED_SECONDS = 10.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


class StorageFull(Unavailable):
    code = "storage_full"

    def __init__(self) -> None:
        super().__init__(
            "There is no room for the file on the platform's disk; the operator has to make some"
        )


class Incoming:
    """A file on its way in; it is removed when nobody has kept it. Its methods block on the disk."""

    def __init__(self, directory: Path, ending: str) -> None:
        self.name = f"{secrets.token_hex(16)}.{ending}"
        self.path = directory / INCOMING / self.name
        self.kept_path = directory / self.name
        self.size = 0
        self._digest = hashlib.sha256()
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @property
    def digest(self) -> bytes:
        return self._digest.digest()

    def write(self, content: bytes) -> None:
        """Raises StorageFull."""
        self._digest.update(content)
        self.size += len(content)
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as fault:
            if fault.errno in _FULL:
                raise StorageFull from None
            raise

    def keep(self) -> None:
        """Puts the file, whole and on the disk, in its place; before its row, or the row could speak of nothing."""
        try:
            os.fsync(self._descriptor)
        except OSError as fault:
            if fault.errno in _FULL:
                raise StorageFull from None
            raise
        self.path.rename(self.kept_path)
        self.path = self.kept_path
        _sync_directory(self.kept_path.parent)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Lets go of the file, which stays where it is."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Uploads(Struct, frozen=True):
    """The directory of all tenants' uploads."""

    root: Path

    def receive(self, tenant_id: str, ending: str) -> Incoming:
        """A new file of a tenant. Raises StorageFull."""
        directory = self.root / tenant_id
        try:
            # One by one: parents that are made along the way would be open to others.
            for level in (self.root, directory, directory / INCOMING):
                level.mkdir(mode=0o700, exist_ok=True)
            return Incoming(directory, ending)
        except OSError as fault:
            if fault.errno in _FULL:
                raise StorageFull from None
            raise

    def list(self) -> set[tuple[str, str]]:
        """Every file that is older than a moment, as tenant and path in the tenant's directory."""
        newest = time.time() - UNLOCKED_SECONDS
        return {
            (tenant.name, str(path.relative_to(tenant)))
            for tenant in _entries(self.root)
            for directory in (tenant, tenant / INCOMING)
            for path in _entries(directory)
            if path.name != INCOMING and _changed_at(path) < newest
        }

    @contextmanager
    def claimed(self, tenant_id: str, name: str) -> Generator[bool, None, None]:
        """Whether nobody is writing the file; held for the block, so that nobody's file stays nobody's."""
        try:
            descriptor = os.open(self.root / tenant_id / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            yield False
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        try:
            yield free
        finally:
            os.close(descriptor)

    def remove(self, tenant_id: str, name: str) -> None:
        (self.root / tenant_id / name).unlink(missing_ok=True)


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _changed_at(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.lstat().st_mtime
    return time.time()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
