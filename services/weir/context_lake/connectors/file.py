"""`file:/path` or `file:path`: files under the operator's import directory, and nowhere else."""

import os
from pathlib import Path

from weir.context_lake.connectors.declared import Findings, Params, Place
from weir.context_lake.connectors.files import LISTING, check_format, format_of, listing_options
from weir.context_lake.connectors.source import Connector, Source, SourceText
from weir.context_lake.surroundings import Surroundings


def check(text: SourceText, params: Params, at: Place, around: Surroundings, found: Findings) -> None:
    if not text.path.strip("/"):
        found.refuse(at.field("from"), "from must name a file or a directory", "invalid")
    elif _place(text.path, around.import_root) is None:
        message = "from must lie inside the import directory"
        found.refuse(at.field("from"), message, "path_not_allowed")
    check_format(text.path, params, at, found)


def locate(text: SourceText, params: Params, around: Surroundings) -> Source:
    # Links may have changed since the dataset was written: the runtime looks again when it opens it.
    location = _place(text.path, around.import_root) or Path(text.path)
    return Source(
        format=format_of(text.path, params), location=str(location), options=listing_options(params)
    )


def _place(path: str, import_root: Path) -> Path | None:
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


CONNECTOR = Connector(
    id="file",
    example="file:path/to/data.csv",
    help="a file or a folder under the operator's import directory, and nowhere else",
    params=LISTING,
    check=check,
    locate=locate,
)
