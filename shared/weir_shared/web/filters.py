"""What callers write to choose among rows: texts that may be empty, moments, pages."""

from datetime import UTC, datetime, timedelta

from msgspec import Struct

from weir_shared.errors import FieldError, ValidationFailed

DAY = timedelta(days=1)
DEFAULT_PER_PAGE = 50
MOST_PER_PAGE = 100


class Page(Struct, frozen=True, kw_only=True):
    """One page of rows, counted from 1."""

    number: int
    size: int

    @property
    def offset(self) -> int:
        return min((self.number - 1) * self.size, 2**31)

    def pages_of(self, total: int) -> int:
        return -(-total // self.size)


def page_of(number: int, size: int) -> Page:
    """A page larger than may be is as large as may be. Raises ValidationFailed for one before the first."""
    if number < 1:
        raise _refused("page", "pages count from 1")
    return Page(number=number, size=min(size, MOST_PER_PAGE) if size > 0 else DEFAULT_PER_PAGE)


def text_of(text: str | None) -> str | None:
    """What is asked for, or None; no row holds a NUL, and asking for one finds nothing."""
    return (text or "").replace("\0", "\ufffd") or None


def moment_of(name: str, text: str | None, *, ends: bool = False) -> datetime | None:
    """RFC 3339, or a day, which begins at midnight UTC; with `ends` the day's last microsecond is meant.

    Raises ValidationFailed, which names the parameter.
    """
    if not text:
        return None
    # A plus that was not escaped arrives as a space.
    written = text.strip().replace(" ", "+")
    try:
        moment = datetime.fromisoformat(written)
        if ends and len(written) == len("2026-01-31"):
            moment += DAY - timedelta(microseconds=1)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _refused(name, "a moment is written like 2026-01-31T12:00:00Z, a day like 2026-01-31") from None


def _refused(name: str, message: str) -> ValidationFailed:
    return ValidationFailed([FieldError(path=name, message=message)], f"{name}: {message}")
