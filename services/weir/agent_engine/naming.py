"""Names that tenants give: DNS labels, so that they fit a path, a host name and a tool's name."""

import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from typing import Any

import msgspec

from weir_shared.errors import FieldError, NotFound, ValidationFailed
from weir_shared.ids import parse_uuid

MAX_CHARACTERS = 100
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?")
# They stand in paths where a name could be meant.
_RESERVED = """
chat agents agent-relations memory files health auth tasks models knowledge-bases schemas mcp-servers
tokens sessions metrics registry
"""
RESERVED = frozenset(_RESERVED.split())


class Faults:
    """Gathers the refusals of a body's fields, so that one answer tells them all."""

    def __init__(self) -> None:
        self.found: list[FieldError] = []

    @contextmanager
    def gathered(self) -> Generator[None]:
        """Keeps a refusal of what is done within, and goes on after it."""
        try:
            yield
        except ValidationFailed as refusal:
            self.found += refusal.errors

    def raise_any(self) -> None:
        """Raises ValidationFailed when there were any."""
        if self.found:
            raise refused(self.found)


def check_name(name: str, *, path: str = "name") -> None:
    """Raises ValidationFailed, which says what a name looks like."""
    if not _LABEL.fullmatch(name):
        rule = f"a name is 1 to {MAX_CHARACTERS} lower-case letters, digits and hyphens, beginning and ending with a letter or digit"
        raise invalid(path, f"{name[:MAX_CHARACTERS]!r} is no name: {rule}")
    if parse_uuid(name) is not None:
        raise invalid(path, "a name must not look like an id")
    if name in RESERVED:
        raise invalid(path, f"'{name}' is a word of the platform; choose another name")


def name_faults(body: bytes, kind: Any) -> list[FieldError]:
    """What is wrong with the name in a body of something new, whatever else is wrong with the body."""
    if not any(field.name == "name" and field.required for field in msgspec.structs.fields(kind)):
        return []
    faults = Faults()
    with suppress(msgspec.ValidationError), faults.gathered():
        check_name(msgspec.json.decode(body, type=_Named).name)
    return faults.found


class _Named(msgspec.Struct):
    name: str


def invalid(path: str, message: str) -> ValidationFailed:
    """A refusal of one field, whose sentence is the body's message too."""
    return refused([FieldError(path=path, message=message)])


def refused(errors: "list[FieldError]") -> ValidationFailed:
    """A refusal of several fields; the body's message holds every sentence."""
    return ValidationFailed(errors, "; ".join(f"{error.path}: {error.message}" for error in errors))


def unknown(path: str, kind: str, text: str, known: Iterable[str]) -> ValidationFailed:
    """A refusal of a reference to nothing, with the nearest name that is something."""
    near = get_close_matches(text, sorted(known), n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return invalid(path, f"there is no {kind} '{text[:MAX_CHARACTERS]}'{hint}")


def reference(text: str, kind: str) -> tuple[str, str | None]:
    """Name and id that a path segment may mean. Raises NotFound for what can be neither."""
    id = parse_uuid(text)
    if id is None and not _LABEL.fullmatch(text):
        raise missing(kind, text)
    return text, id


def missing(kind: str, text: str) -> NotFound:
    return NotFound(f"There is no {kind} '{text[:MAX_CHARACTERS]}'")
