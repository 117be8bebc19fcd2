"""Pages of lists that are sorted by name: a cursor is the key of the last name shown."""

import base64
import binascii
from collections.abc import Sequence
from typing import TypeVar

from weir.context_lake import names
from weir.context_lake.document import Dataset, View
from weir_shared.errors import FieldError, ValidationFailed

Item = TypeVar("Item", Dataset, View)


def page_of(items: Sequence[Item], limit: int | None, cursor: str | None) -> tuple[list[Item], str | None]:
    """The page and the cursor of the next one. Raises ValidationFailed for what is no cursor."""
    after = "" if cursor is None else read_cursor(cursor)
    rest = [item for item in items if names.key_of(item.name) > after]
    page = rest if limit is None else rest[:limit]
    is_last = len(page) == len(rest)
    return list(page), None if is_last else make_cursor(names.key_of(page[-1].name))


def make_cursor(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> str:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise ValidationFailed([FieldError(path="cursor", message="cursor is not one of ours")]) from None
