"""Durations as a Spicepod writes them: `30s`, `1h30m`, `2d`."""

import re

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d{1,9})(ms|s|m|h|d|w)")
MOST_SECONDS = 100 * 365 * 86_400


def seconds_of(text: str) -> float | None:
    """None for what is no duration, or is longer than a hundred years."""
    if not re.fullmatch(rf"(?:{_PART.pattern})+", text):
        return None
    seconds = sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(text))
    return seconds if seconds <= MOST_SECONDS else None
