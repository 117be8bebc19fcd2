"""Identifiers: what the platform hands out, and how it reads what it is handed."""

import uuid


def new_id() -> str:
    """A random id, opaque to clients."""
    return str(uuid.uuid4())


def parse_uuid(text: str) -> str | None:
    """The canonical form of a UUID, or None when the text is not one."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None
