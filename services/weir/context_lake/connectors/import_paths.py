"""Paths of tenants: under the operator's import directory, and nowhere else."""

import os
from pathlib import Path

from weir.context_lake.connectors.declared import Findings


def check_path(path: str, import_root: Path, at: str, field: str, found: Findings) -> None:
    if not path.strip("/"):
        found.refuse(at, f"{field} must name a file or a directory", "invalid")
    elif _inside(path, import_root) is None:
        found.refuse(at, f"{field} must lie inside the import directory", "path_not_allowed")


def absolute(path: str, import_root: Path) -> str:
    """The path of a dataset that has been checked.

    Links may have changed since: the runtime looks again when it opens it.
    """
    return str(_inside(path, import_root) or Path(path))


def _inside(path: str, import_root: Path) -> Path | None:
    """The absolute path, or None when it leaves the import directory (after links, where it exists)."""
    parts = Path(path)
    if ".." in parts.parts:
        return None
    whole = import_root / parts
    try:
        real, root = Path(os.path.realpath(whole)), Path(os.path.realpath(import_root))
    except (OSError, ValueError):
        return None
    return whole if real == root or root in real.parents else None
