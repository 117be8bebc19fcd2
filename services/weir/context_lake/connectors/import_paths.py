"""Paths of tenants: under the operator's import directory, and nowhere else."""

import os
from pathlib import Path

from weir.context_lake.connectors.declared import Findings
from weir.context_lake.surroundings import Surroundings


def check_path(path: str, around: Surroundings, at: str, field: str, found: Findings) -> None:
    if not path.strip("/"):
        found.refuse(at, f"{field} must name a file or a directory", "invalid")
    elif _inside(path, around) is None:
        found.refuse(at, f"{field} must lie inside the import directory", "path_not_allowed")


def absolute(path: str, around: Surroundings) -> str:
    """The path of a dataset that has been checked.

    Links may have changed since: the runtime looks again when it opens it.
    """
    return str(_inside(path, around) or Path(path))


def _inside(path: str, around: Surroundings) -> Path | None:
    """The absolute path, or None when it leaves the import directory (after links, where it exists).

    An operator's directory may hold the platform's own: what tenants have uploaded is no part of it.
    """
    parts = Path(path)
    if ".." in parts.parts:
        return None
    whole = around.import_root / parts
    try:
        real, root = Path(os.path.realpath(whole)), Path(os.path.realpath(around.import_root))
        uploads = Path(os.path.realpath(around.uploads))
    except (OSError, ValueError):
        return None
    if uploads in (real, *real.parents) or real in uploads.parents:
        return None
    return whole if real == root or root in real.parents else None
