"""What a connector is: an id, its parameters, a check of its own, and the way to the runtime's words."""

import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from weir.context_lake.connectors.declared import Findings, Param, Params, Place
from weir.context_lake.surroundings import Surroundings

_FROM = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*):(//)?(.*)", re.DOTALL)
# Schemes of one connector besides its own id.
_SCHEMES = {"gs": "gcs", "abfss": "abfs", "az": "abfs"}


class SourceText(Struct, frozen=True):
    """A `from` in its two parts: `s3://bucket/key` is `s3` and `bucket/key`."""

    connector: str
    path: str
    has_slashes: bool


class Source(Struct, frozen=True, kw_only=True):
    """A dataset in the runtime's words."""

    format: str = ""
    """Empty for sources that are no files."""
    location: str = ""
    options: dict[str, Any]
    roots: tuple[str, ...] = ()
    """Directories that this dataset may read besides the import directory."""


Check = Callable[[SourceText, Params, Place, Surroundings, Findings], None]
Locate = Callable[[SourceText, Params, Surroundings], Source]


class Connector(Struct, frozen=True, kw_only=True):
    id: str
    example: str
    """How a `from` of it reads."""
    help: str
    """What it reads, as the reference says it."""
    params: tuple[Param, ...]
    check: Check
    locate: Locate
    reads_files: bool = False
    """Whether its rows are in files, which have a place, an age and a size."""
    is_offered: bool = True
    """Whether a `from` of it is something to write, rather than to keep."""
    check_notifications: Check | None = None
    """Whether a change at this source can be told to the platform; None: at none of this connector."""


def read_from(text: str) -> SourceText | None:
    match = _FROM.fullmatch(text)
    if match is None:
        return None
    scheme = match[1].lower()
    return SourceText(_SCHEMES.get(scheme, scheme), match[3], bool(match[2]))
