"""Tables in a `from`: names with dots between them, quoted where they hold a dot themselves."""

import re

from weir.context_lake.connectors.declared import Findings, Place
from weir.context_lake.connectors.source import SourceText

_PART = re.compile(r'"((?:[^"]|"")+)"|`((?:[^`]|``)+)`|([^\s.,;:"\'`()\\/]+)')


def read_names(path: str) -> list[str] | None:
    """`public."a.b"` is `public` and `a.b`; None when it is no table's name."""
    names: list[str] = []
    at = 0
    while match := _PART.match(path, at):
        quoted, ticked, bare = match.groups()
        names.append(quoted.replace('""', '"') if quoted else ticked.replace("``", "`") if ticked else bare)
        if match.end() == len(path):
            return names
        if path[match.end()] != ".":
            return None
        at = match.end() + 1
    return None


def check_names(text: SourceText, syntax: str, most: int, at: Place, found: Findings) -> list[str]:
    """The names of a table, at most so many; told when they are something else."""
    names = None if text.has_slashes else read_names(text.path)
    if names and len(names) <= most:
        return names
    field = at.field("from")
    if text.has_slashes and "@" in text.path:
        found.refuse(field, "from must carry no credentials: put them in params", "credentials")
    elif not text.has_slashes and re.match(r"[\w.]*\s*\(", text.path):
        found.refuse(field, "from must name a table: functions are not available", "not_available")
    else:
        found.refuse(field, f"from must read {syntax}")
    return []
