"""Names that tenants give: DNS labels, so that they fit a path, a host name and a tool's name."""

import re

from weir_shared.errors import FieldError, NotFound, ValidationFailed
from weir_shared.ids import parse_uuid

MAX_CHARACTERS = 100
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?")
# They stand in paths where a name could be meant.
_RESERVED = """
chat agents agent-relations memory files health auth tasks models knowledge-bases schemas mcp-
servers tokens sessions metrics registry
"""
RESERVED = frozenset(_RESERVED.split())


def check_name(name: str, *, path: str = "name") -> None:
    """Raises ValidationFailed, which says what a name looks like."""
    if not _LABEL.fullmatch(name):
        rule = f"a name is 1 to {MAX_CHARACTERS} lower-case letters, digits and hyphens, beginning and ending with a letter or digit"
        raise invalid(path, f"{name[:MAX_CHARACTERS]!r} is no name: {rule}")
    if parse_uuid(name) is not None:
        raise invalid(path, "a name must not look like an id")
    if name in RESERVED:
        raise invalid(path, f"'{name}' is a word of the platform; choose another name")


def invalid(path: str, message: str) -> ValidationFailed:
    """A refusal of one field, whose sentence is the body's message too."""
    return ValidationFailed([FieldError(path=path, message=message)], f"{path}: {message}")


def reference(text: str, kind: str) -> tuple[str, str | None]:
    """Name and id that a path segment may mean. Raises NotFound for what can be neither."""
    if not _LABEL.fullmatch(text):
        raise missing(kind, text)
    return text, parse_uuid(text)


def missing(kind: str, text: str) -> NotFound:
    return NotFound(f"There is no {kind} '{text[:MAX_CHARACTERS]}'")
